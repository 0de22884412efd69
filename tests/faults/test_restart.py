"""Schedulers that stop, die or come back in the middle of work (rows 1 to 3, and 17 with one of them)."""

import asyncio
import time
from pathlib import Path

from fault_mesh import fault_mesh, followed, state, training


async def test_a_planned_restart_costs_a_moment_and_nothing_else(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=200, epoch_ms=20, checkpoint_period=50)) as job:
            await job.sees_epoch(20)
            began = time.monotonic()
            assert await scheduler.stop() == 0
            stopped = time.monotonic()
            await mesh.scheduler()
            ready = time.monotonic()
            ended = await job.end()
        assert "connect anew" in agent.log_text()
    gap = max(later - earlier for earlier, later in zip(job.times, job.times[1:], strict=False))
    away = f"stopped in {stopped - began:.1f} s, back after {ready - stopped:.1f} s"
    print(f"{away}; the watch's gap: {gap:.1f} s")
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, 201))}


async def test_a_scheduler_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, scheduler):
        await mesh.agent("one")
        kills = 0
        async with followed(mesh, training(epochs=400, epoch_ms=20, checkpoint_period=50)) as job:
            for epoch in (20, 150, 300):
                await job.sees_epoch(epoch)
                await scheduler.kill()
                kills += 1
                scheduler = await mesh.scheduler()
            ended = await job.end()
    print(f"kills survived: {kills}; lost = 0, duplicated = 0")
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 1)
    assert job.epochs == {1: list(range(1, 401))}


async def test_no_lease_ends_before_a_full_lease_after_the_start(tmp_path: Path) -> None:
    lease = 3.0
    async with fault_mesh(tmp_path, lease_seconds=lease, heartbeat_seconds=0.5) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(hold_after=1)) as job:
            await job.sees_epoch(1)
            await scheduler.kill()
            agent.freeze()
            await asyncio.sleep(lease)  # the lease in the database is over before anybody looks
            started = time.monotonic()
            await mesh.scheduler()
            await job.sees(lambda event: event.update.state_changed.reason == "RETRY_SCHEDULED")
            lost = time.monotonic() - started
            agent.thaw()
            ended = await job.end()
    print(f"lease of {lease:.0f} s: lost {lost:.1f} s after the scheduler began to start")
    assert lost >= lease
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 2)
