"""Clocks that are put forward and back while jobs run (row 25), and an agent that stands still (row 13)."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fault_mesh import DEADLINE, FaultMesh, fault_mesh, followed, state, training
from postgres_server import PostgresServer
from wall_clock import WallClock, made_wall_clock

from visionmesh.v1 import job_pb2


@pytest.mark.parametrize("whose", ["scheduler", "one"])
async def test_no_lease_ends_because_a_clock_jumps(wall_clock: WallClock, tmp_path: Path, whose: str) -> None:
    mesh_ = FaultMesh(tmp_path)
    mesh_.prefixes[whose] = wall_clock.prefix
    async with fault_mesh(tmp_path, mesh_, lease_seconds=8, heartbeat_seconds=2) as (mesh, scheduler):
        await mesh.agent("one")
        async with followed(mesh, training(epochs=200, epoch_ms=50, checkpoint_period=40)) as job:
            waits = []
            for jumps, hours in enumerate((1, 0, -1)):
                await job.sees_epoch(1 + 40 * jumps)
                await mesh.heartbeat("one")  # the next one is 2 s away, a sweep 1 s at most
                jumped = time.monotonic()
                wall_clock.put(hours)
                await job.sees_epoch(len(job.epochs[1]) + 1)
                waits.append(time.monotonic() - jumped)
            ended = await job.end()
        expired = scheduler.log_text().count("lease expired")
    print(
        f"clock of {whose} put 1 h forward, back, and back again: {expired} false expiries, "
        f"attempts used {ended.attempt}, longest wait for the next epoch {max(waits):.1f} s"
    )
    assert expired == 0
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, 201))}


async def _newly_told(mesh: FaultMesh, job: job_pb2.Job) -> float:
    """Create a job; the seconds until who watches all jobs is told of it."""
    watch = mesh.client.watch_jobs()
    try:
        async with asyncio.timeout(DEADLINE):
            known = await anext(aiter(watch))
            assert known.job.name
            began = time.monotonic()
            created = await mesh.client.create_job(job)
            async for told in watch:
                if told.job.name == created.name:
                    return time.monotonic() - began
        raise AssertionError("the watch ended")
    finally:
        await watch.aclose()


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_a_clock_that_is_put_back_keeps_nobody_waiting(
    wall_clock: WallClock, tmp_path: Path, restarted: bool
) -> None:
    mesh_ = FaultMesh(tmp_path)
    mesh_.prefixes["scheduler"] = wall_clock.prefix
    settings = {"lease_seconds": 2, "heartbeat_seconds": 0.3}
    async with fault_mesh(tmp_path, mesh_, **settings) as (mesh, scheduler):
        first = await mesh.agent("one")
        failing = training("killed", seed=9)
        failing.retry_policy.initial_backoff.FromSeconds(3)
        async with followed(mesh, training(hold_after=2)) as held:
            await held.sees_epoch(2)
            frozen = first.freeze()  # its lease ends by a clock that is put back
            wall_clock.put(-1)
            if restarted:
                await scheduler.kill()
                scheduler = await mesh.scheduler(**settings)
            await mesh.agent("two")
            await held.sees(lambda event: event.attempt == 2)
            lost = time.monotonic() - frozen
            ended = await held.end()
        async with followed(mesh, failing) as job:
            await job.sees(lambda event: event.update.state_changed.reason == "RETRY_SCHEDULED")
            failed = time.monotonic()
            wall_clock.put(-2)
            await job.sees(lambda event: event.attempt == 2)
            backoff = time.monotonic() - failed
            told = await _newly_told(mesh, training())
    print(f"clock 1 h back: a frozen runner's job began elsewhere after {lost:.1f} s, lease 2 s")
    print(f"2 h back: a backoff of 3 s took {backoff:.1f} s; a watch of all jobs heard after {told:.2f} s")
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 2)


async def test_an_agent_that_stands_still_for_10_s_keeps_its_lease(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, scheduler):  # the lease is 30 s
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=300, epoch_ms=40, checkpoint_period=100)) as job:
            await job.sees_epoch(20)
            agent.freeze()
            await asyncio.sleep(10)  # that long, its event loop does nothing
            before, thawed = len(job.epochs[1]), agent.thaw()
            await job.sees_epoch(before + 1)
            news = time.monotonic() - thawed
            ended = await job.end()
        expired = scheduler.log_text().count("lease expired")
    print(f"agent stood still for 10 s: {expired} false expiries, the next epoch {news:.1f} s later")
    assert expired == 0
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, 301))}


@pytest.fixture
async def database_clock(
    postgres: PostgresServer, require: Callable[[str, str], str]
) -> AsyncIterator[WallClock]:
    """The clock of a PostgreSQL server."""
    require("cc", "apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as environment:
        os.chmod(name, 0o755)  # noqa: PTH101, S103 - the server has an account of its own
        clock = await made_wall_clock(Path(name))
        postgres.stop("fast")
        for variable, value in clock.variables.items():
            environment.setenv(variable, value)
        postgres.start()
        environment.undo()
        yield clock
        postgres.stop("fast")
        postgres.start()


async def test_no_lease_ends_because_the_databases_clock_jumps(
    postgres: PostgresServer, database_clock: WallClock, tmp_path: Path
) -> None:
    settings = {"database_url": postgres.new_database(), "lease_seconds": 6, "heartbeat_seconds": 2}
    async with fault_mesh(tmp_path, replicas=2, **settings) as (mesh, _):
        await mesh.agent("one")  # one of the replicas hears it, the other sees its lease renewed
        async with followed(mesh, training(epochs=280, epoch_ms=50, checkpoint_period=40)) as job:
            for epoch, hours in ((140, 1), (160, 0), (180, -1)):  # a lease or more after the start
                await job.sees_epoch(epoch)
                await mesh.heartbeat("one")
                database_clock.put(hours)
            ended = await job.end()
    print(
        f"PostgreSQL's clock 1 h forward, back, and back again, two replicas: attempts used {ended.attempt}"
    )
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)


async def test_the_lease_of_a_dead_runner_ends_though_the_databases_clock_is_put_back(
    postgres: PostgresServer, database_clock: WallClock, tmp_path: Path
) -> None:
    settings = {"database_url": postgres.new_database(), "lease_seconds": 2, "heartbeat_seconds": 0.3}
    async with fault_mesh(tmp_path, replicas=2, **settings) as (mesh, _):
        first = await mesh.agent("one")
        async with followed(mesh, training(hold_after=2)) as job:
            await job.sees_epoch(2)
            frozen = first.freeze()
            database_clock.put(-1)
            await job.sees(lambda event: event.update.state_changed.reason == "RETRY_SCHEDULED")
            lost = time.monotonic() - frozen
    print(f"PostgreSQL's clock 1 h back: a frozen runner's attempt was lost after {lost:.1f} s, lease 2 s")
