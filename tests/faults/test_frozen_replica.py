"""Replicas and runners that freeze while others live, over PostgreSQL (rows 11 and 12)."""

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from fault_mesh import DEADLINE, FaultMesh, Process, fault_mesh, followed, state, training
from postgres_server import PostgresServer

KEEPALIVE = 8.0
"""Seconds after which an agent notices a peer that says nothing more; a client needs 13."""

LEASE, FREEZE = 16.0, 18.0

EPOCHS = (200, 500, 500)
"""Of three jobs; each takes 50 ms at least."""

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'visionmesh' AND wait_event_type = 'Lock'"
)


@pytest.mark.timeout(200)
async def test_work_goes_on_beside_a_frozen_replica(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.new_database()
    settings = {"database_url": url, "lease_seconds": LEASE, "heartbeat_seconds": 1}
    async with (
        fault_mesh(tmp_path, replicas=2, **settings) as (mesh, _),
        AsyncExitStack() as stack,
    ):
        names = ("one", "two", "three")
        agents = dict(zip(names, await asyncio.gather(*map(mesh.agent, names)), strict=True))
        jobs = []
        for epochs in EPOCHS:  # the first ends while the replica is frozen
            job = training(epochs=epochs, epoch_ms=50, checkpoint_period=100)
            jobs.append(await stack.enter_async_context(followed(mesh, job)))
        for job in jobs:
            await job.sees_epoch(5)
        replica, there = max(
            ((process, on_it(agents, process)) for process in mesh.schedulers.values()),
            key=lambda found: len(found[1]),
        )
        heard = {name: len(agents[name].log_text()) for name in there}
        frozen = await frozen_with_a_lock(replica, postgres, url, there[0])
        before = len(replica.log_text())
        noticed = [await agents[name].says("registered", heard[name]) - frozen for name in there]
        took = await seconds_to_create(mesh)
        short = await jobs[0].end()
        await asyncio.sleep(max(0.0, frozen + FREEZE - time.monotonic()))
        replica.thaw()
        for name in there:
            await replica.says(f'"runner": "{name}", "event": "runner disconnected"', before)
        assert await jobs[0].job.get() == short
        ended = [short, *[await job.end() for job in jobs[1:]]]
    gaps = [b - a for job in jobs for a, b in pairwise(job.times)]
    print(
        f"frozen for {FREEZE:.0f} s, lease of {LEASE:.0f} s: {len(there)} of 3 runners were there, and "
        f"elsewhere after {', '.join(f'{s:.1f}' for s in noticed)} s; longest gap of a watch "
        f"{max(gaps):.1f} s; calls took {took:.1f} s"
    )
    assert max(noticed) < KEEPALIVE + 10
    assert {(state(job), job.attempt, job.failure_count) for job in ended} == {("SUCCEEDED", 1, 0)}
    assert [job.epochs for job in jobs] == [{1: list(range(1, n + 1))} for n in EPOCHS]


async def frozen_with_a_lock(replica: Process, postgres: PostgresServer, url: str, runner: str) -> float:
    """Freeze it in a transaction that has locked a runner, so that others wait for it. Returns when."""
    async with await psycopg.AsyncConnection.connect(url) as before_it:
        await before_it.execute("SELECT FROM runners WHERE id = %s FOR UPDATE", (runner,))
        async with asyncio.timeout(DEADLINE):
            while await asyncio.to_thread(postgres.run_sql, WAITING) == [(0,)]:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)  # the next heartbeat waits
        return replica.freeze()  # and then it has the lock


def on_it(agents: dict[str, Process], scheduler: Process) -> list[str]:
    """The agents that are connected to a scheduler: they have registered nowhere else."""
    return [name for name in agents if f'"runner": "{name}"' in scheduler.log_text()]


async def seconds_to_create(mesh: FaultMesh) -> float:
    """How long it takes to create some jobs, whichever replica each call goes to first."""
    before = time.monotonic()
    await asyncio.gather(*(mesh.client.create_job(training(epochs=1)) for _ in range(4)))
    return time.monotonic() - before
