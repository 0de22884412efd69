"""Three replicas that are restarted in turn while many small jobs run (row 17)."""

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import count, pairwise
from pathlib import Path

import pytest
from fault_mesh import FRAMEWORK, FaultMesh, Follower, fault_mesh, followed, state, training
from postgres_server import PostgresServer

from visionmesh.v1 import job_pb2

REPLICAS = 3
WATCHERS = 3
"""Of each long job."""


class Load:
    """Small jobs, three at a time, until it is told to stop."""

    def __init__(self, mesh: FaultMesh) -> None:
        self._mesh, self._stopping = mesh, False
        self.done: list[job_pb2.Job] = []

    async def run(self) -> None:
        """Raises whatever a user would have seen."""
        numbers = count()
        async with asyncio.TaskGroup() as group:
            for _ in range(REPLICAS):
                group.create_task(self._keep_on(numbers))

    def stop(self) -> None:
        self._stopping = True

    async def _keep_on(self, numbers: "count[int]") -> None:
        while not self._stopping:
            job = training(epochs=3, epoch_ms=20 + next(numbers) % 5)
            async with followed(self._mesh, job) as follower:
                self.done.append(await follower.end())


@pytest.mark.timeout(200)
async def test_a_rolling_restart_is_seen_by_nobody(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.new_database()
    async with (
        fault_mesh(tmp_path, replicas=REPLICAS, database_url=url) as (mesh, _),
        AsyncExitStack() as stack,
    ):
        names = [f"agent-{number}" for number in range(REPLICAS)]
        await asyncio.gather(*(mesh.agent(name, FRAMEWORK, "--slots", "2") for name in names))
        watchers = []
        for _ in range(REPLICAS):
            endless = training(epochs=10_000, epoch_ms=50, checkpoint_period=10_000)
            first = await stack.enter_async_context(followed(mesh, endless))
            watchers += [first, *(Follower(first.job) for _ in range(WATCHERS - 1))]
        for watcher in watchers:
            await watcher.sees_epoch(5)
        load = Load(mesh)
        loading = asyncio.create_task(load.run())
        began = time.monotonic()
        for replica in range(REPLICAS):
            assert await mesh.schedulers[replica].stop() == 0
            await mesh.scheduler(replica)
        over = time.monotonic()
        load.stop()
        await loading
        for watcher in watchers:
            await watcher.sees_epoch(max(watcher.epochs[1]) + 5)
        for watcher in watchers[::WATCHERS]:
            await watcher.job.cancel()
        ended = [await watcher.end() for watcher in watchers]
    gaps = sorted(gap for watcher in watchers for gap in gaps_of(watcher, began, over))
    print(
        f"{REPLICAS} replicas restarted in {over - began:.1f} s, {len(load.done)} small jobs meanwhile in "
        f"{sum(job.attempt for job in load.done)} attempts; "
        f"gaps of {len(watchers)} watches: longest {gaps[-1]:.2f} s, "
        f"p99 {gaps[len(gaps) * 99 // 100]:.2f} s, median {gaps[len(gaps) // 2]:.2f} s"
    )
    assert {(state(job), job.attempt, job.failure_count) for job in ended} == {("CANCELLED", 1, 0)}
    # An assignment that crossed the end of its stream is no attempt that failed: another follows.
    assert {(state(job), job.failure_count) for job in load.done} == {("SUCCEEDED", 0)}


def gaps_of(watcher: Follower, began: float, over: float) -> list[float]:
    """Seconds from one event to the next between those moments."""
    return [b - a for a, b in pairwise(watcher.times) if b > began and a < over]
