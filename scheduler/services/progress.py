"""ProgressService: progress in from runners, out to watchers."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from scheduler.hub import Hub
from scheduler.publishing import Publisher
from scheduler.services import pages
from scheduler.services.intake import Intake, Numbered, Stream
from scheduler.services.shared_reads import SharedReads
from scheduler.services.tail import Patience, Tail
from scheduler.store import history
from scheduler.store.commit import GroupCommitter
from scheduler.store.engine import Connection
from scheduler.store.store import Store
from scheduler.store.streams import ProgressWrite
from visionmesh import names
from visionmesh.errors import not_found
from visionmesh.v1 import progress_pb2, progress_pb2_grpc, vision_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class ProgressService(progress_pb2_grpc.ProgressServiceServicer):
    """See progress.proto."""

    def __init__(
        self, store: Store, hub: Hub, committer: GroupCommitter, publisher: Publisher, patience: Patience
    ) -> None:
        self._store, self._hub, self._patience = store, hub, patience
        self._publisher = publisher
        self._intake = Intake(committer)
        self._reads = SharedReads(store, hub, _read)

    async def ReportProgress(
        self, requests: AsyncIterator[progress_pb2.ReportProgressRequest], context: Context
    ) -> None:
        """Take progress from a runner."""
        stream = await self._intake.open(requests, ProgressWrite)
        await context.write(progress_pb2.ReportProgressResponse(committed_number=stream.committed_number))

        async def acknowledge(number: int) -> None:
            await context.write(progress_pb2.ReportProgressResponse(committed_number=number))

        await stream.take_all(self._published(stream, requests), acknowledge)

    async def _published(
        self, stream: Stream, requests: AsyncIterator[progress_pb2.ReportProgressRequest]
    ) -> AsyncIterator[Numbered]:
        """The requests; before one that ends the attempt well, its files are published."""
        async for request in requests:
            if any(_succeeds(update) for update in request.updates):
                await self._publisher.publish(stream.job_id, stream.attempt)
            yield request.first_number, request.updates

    async def WatchProgress(self, request: progress_pb2.WatchProgressRequest, context: Context) -> None:
        """Send a job's events."""

        def bookmark(sequence: int) -> progress_pb2.WatchProgressResponse:
            return progress_pb2.WatchProgressResponse(bookmark=vision_pb2.Bookmark(sequence=sequence))

        tail = Tail(self._reads, self._hub, self._patience, context, bookmark)
        await tail.follow(names.job_id(request.job), request.after_sequence)

    async def ListMetrics(
        self, request: progress_pb2.ListMetricsRequest, context: Context
    ) -> progress_pb2.ListMetricsResponse:
        """List the metrics of epochs."""
        job_id = names.job_id(request.parent)
        size = request.page_size or 100
        after = (pages.decode(request.page_token, request.parent, (int,)) or [0])[0]
        async with self._store.read() as connection:
            if await history.position(connection, job_id) is None:
                raise not_found("job", request.parent)
            found = await history.read_epochs(connection, job_id, after, size)
        token = pages.encode(request.parent, [found.items[-1].sequence]) if found.more else ""
        return progress_pb2.ListMetricsResponse(epochs=found.items, next_page_token=token)


def _succeeds(update: progress_pb2.ProgressUpdate) -> bool:
    return update.attempt_ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED


async def _read(
    connection: Connection, job_id: str, after: int, limit: int, max_bytes: int
) -> history.Slice[tuple[int, progress_pb2.WatchProgressResponse]]:
    found = await history.read_events(connection, job_id, after, limit, max_bytes)
    told = [(event.sequence, progress_pb2.WatchProgressResponse(event=event)) for event in found.items]
    return history.Slice(told, found.more)
