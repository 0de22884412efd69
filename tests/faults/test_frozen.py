"""Peers that keep their connections and say nothing more (rows 11, 12, 14)."""

import asyncio
import time
from pathlib import Path

from fault_mesh import fault_mesh, followed, state, training


async def test_a_frozen_scheduler_is_noticed_and_found_again(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=300, epoch_ms=40, checkpoint_period=100)) as job:
            await job.sees_epoch(20)
            frozen = scheduler.freeze()
            noticed = await agent.says("scheduler not reached")
            print(f"frozen scheduler noticed after {noticed - frozen:.1f} s")
            heard = len(agent.log_text())
            thawed = scheduler.thaw()
            back = await agent.says("registered", heard)
            print(f"registered {back - thawed:.1f} s after it went on")
            ended = await job.end()
    assert noticed - frozen < 10
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 1)
    assert job.epochs == {1: list(range(1, 301))}


async def test_a_scheduler_that_was_frozen_beyond_the_lease_takes_nothing_away(tmp_path: Path) -> None:
    lease = 2.0
    async with fault_mesh(tmp_path, lease_seconds=lease, heartbeat_seconds=0.3) as (mesh, scheduler):
        await mesh.agent("one")
        async with followed(mesh, training(epochs=200, epoch_ms=40, checkpoint_period=100)) as job:
            for epoch in (10, 50):
                await job.sees_epoch(epoch)
                scheduler.freeze()
                await asyncio.sleep(1.5 * lease)  # runners beat, and nobody hears them
                scheduler.thaw()
            ended = await job.end()
    print(f"frozen twice for {1.5 * lease:.0f} s, lease of {lease:.0f} s: attempts {ended.attempt}")
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 1)
    assert job.epochs == {1: list(range(1, 201))}


async def test_a_job_that_ends_while_its_runner_is_frozen_is_completed_once(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path, lease_seconds=3, heartbeat_seconds=0.4) as (mesh, _):
        first = await mesh.agent("one")
        async with followed(mesh, training(epochs=20, epoch_ms=100)) as job:
            started = await job.sees(lambda event: event.update.HasField("attempt_started"))
            await job.sees_epoch(2)
            first.freeze()
            await mesh.agent("two")
            ended = await job.end()
            await mesh.gone(started.update.attempt_started.pid)
            first.thaw()
            await first.says("attempt dropped")
            after = await job.job.get()
    print(f"epochs by attempt {job.epochs}; completions {len(job.endings)}")
    assert (state(ended), ended.attempt, after) == ("SUCCEEDED", 2, ended)
    assert job.endings == [(2, "SUCCEEDED", "UNSPECIFIED")]


async def test_what_a_frozen_runner_had_runs_elsewhere_and_it_changes_nothing(
    tmp_path: Path, database_url: str
) -> None:
    settings = {"lease_seconds": 3, "heartbeat_seconds": 0.4, "database_url": database_url}
    async with fault_mesh(tmp_path, **settings) as (mesh, scheduler):
        first = await mesh.agent("one")
        async with followed(mesh, training("paced", hold_after=2)) as job:
            started = await job.sees(lambda event: event.update.HasField("attempt_started"))
            await job.sees_checkpoint(2)
            await mesh.agent("two")
            frozen = first.freeze()
            await job.sees(lambda event: event.attempt == 2)
            lost = time.monotonic() - frozen
            ended = await job.end()
            noticed = await scheduler.says("runner disconnected")
            print(f"frozen runner's connection ended after {noticed - frozen:.1f} s")
            first.thaw()
            await first.says("attempt dropped")
            await mesh.gone(started.update.attempt_started.pid)
            after = await job.job.get()
    print(f"lease of 2 s: lost after {lost:.1f} s; epochs by attempt {job.epochs}")
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 2)
    assert noticed - frozen < 20
    assert after == ended
    assert job.endings == [(2, "SUCCEEDED", "UNSPECIFIED")]
