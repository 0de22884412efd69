"""Following jobs to their end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from visionmesh.cli._live import Board
from visionmesh.client import AsyncJobHandle
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2

_EXPLAIN_EVERY = 3.0  # seconds that a job may wait before its bar says why


async def follow(board: Board, handle: AsyncJobHandle, after_sequence: int = 0) -> job_pb2.Job:
    """Show a job that is on the board until it has ended; returns it as it ended."""
    async with _explaining(board, handle) as started, aclosing(handle.watch(after_sequence)) as events:
        async for event in events:
            if event.update.HasField("attempt_started") or event.update.HasField("stage_changed"):
                started.set()
            board.event(event)
    return await handle.get()


@asynccontextmanager
async def _explaining(board: Board, handle: AsyncJobHandle) -> AsyncIterator[asyncio.Event]:
    """Say why the job waits, for as long as the yielded event is not set."""
    started = asyncio.Event()
    task = asyncio.create_task(_explain(board, handle, started))
    try:
        yield started
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _explain(board: Board, handle: AsyncJobHandle, started: asyncio.Event) -> None:
    while True:
        try:
            async with asyncio.timeout(_EXPLAIN_EVERY):
                await started.wait()
            return
        except TimeoutError:
            try:
                explanation = await handle.explain()
            except MeshError:
                continue  # the watch beside us deals with a mesh that is away
            if not started.is_set():
                board.note(handle.name, explanation.summary)
