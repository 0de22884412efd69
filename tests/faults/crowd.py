"""Many watchers of one job, and some that stop reading."""

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any

import grpc
from fault_mesh import DEADLINE

from visionmesh.client import AsyncJobHandle
from visionmesh.v1 import progress_pb2, progress_pb2_grpc


class Crowd:
    """Many watchers of one job; each is told everything once and in order, or the group fails."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self.told: list[int] = []
        """The last sequence that each was told."""
        self.times: defaultdict[int, list[float]] = defaultdict(list)
        """When a sequence was told, by sequence."""
        self._everybody: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    def join(self, job: AsyncJobHandle, after: int = 0) -> None:
        """One more."""
        self.told.append(after)
        self._group.create_task(self._watch(len(self.told) - 1, job, after))

    async def _watch(self, number: int, job: AsyncJobHandle, after: int) -> None:
        async for event in job.watch(after):
            assert event.sequence == self.told[number] + 1
            self.told[number] = event.sequence
            self.times[event.sequence].append(time.monotonic())
            if len(self.times[event.sequence]) == len(self.told):
                self._everybody[event.sequence].set()

    async def until(self, sequence: int) -> list[float]:
        """Wait until everybody was told `sequence`; when each was."""
        async with asyncio.timeout(2 * DEADLINE):
            await self._everybody[sequence].wait()
        return sorted(self.times[sequence])


async def stalled_watches(address: str, job: str, stack: AsyncExitStack, count: int) -> list[Any]:
    """Watches that have read one message, and read no more."""
    calls = []
    # The least that a connection may hold: what is behind it waits in the scheduler.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    for _ in range(count):
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
        stub: Any = progress_pb2_grpc.ProgressServiceStub(channel)
        calls.append(stub.WatchProgress(progress_pb2.WatchProgressRequest(job=job)))
        await calls[-1].read()
    return calls
