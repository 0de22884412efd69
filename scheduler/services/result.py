"""ResultService: predictions, summaries and files, in from runners and out to clients."""

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import Any

import grpc
from google.api import httpbody_pb2

from scheduler.hub import Hub
from scheduler.publishing import attempt_prefix
from scheduler.services import pages
from scheduler.services.intake import Intake, Stream
from scheduler.services.shared_reads import SharedReads
from scheduler.services.tail import Patience, Tail
from scheduler.services.transfer import pieces
from scheduler.store import history, present
from scheduler.store.commit import GroupCommitter, images_done
from scheduler.store.engine import Connection
from scheduler.store.store import Store
from scheduler.store.streams import ResultsWrite
from scheduler.store.totals import over_all_attempts
from visionmesh import names
from visionmesh.errors import MeshError, Reason, invalid, not_found
from visionmesh.storage import BadKey, ObjectStore
from visionmesh.v1 import result_pb2, result_pb2_grpc, vision_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class ResultService(result_pb2_grpc.ResultServiceServicer):
    """See result.proto."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        committer: GroupCommitter,
        artifacts: ObjectStore,
        patience: Patience,
    ) -> None:
        self._store, self._hub, self._patience = store, hub, patience
        self._artifacts = artifacts
        self._intake = Intake(committer)
        self._reads = SharedReads(store, hub, _read)

    async def PublishResults(
        self, requests: AsyncIterator[result_pb2.PublishResultsRequest], context: Context
    ) -> None:
        """Take results from a runner."""
        stream = await self._intake.open(requests, ResultsWrite)
        async with self._store.read() as connection:
            done = await images_done(connection, stream.job_id)
        await context.write(
            result_pb2.PublishResultsResponse(committed_number=stream.committed_number, images_done=done)
        )
        async for request in requests:
            for item in request.items:
                if item.HasField("artifact"):
                    self._check_place(item.artifact, stream.job_id, stream.attempt)
            number = await self._take(stream, request.first_number, request.items)
            await context.write(result_pb2.PublishResultsResponse(committed_number=number))

    async def _take(self, stream: Stream, first_number: int, items: Sequence[result_pb2.ResultItem]) -> int:
        """Commit items; the totals of a later attempt as those of all, when what goes before is committed.

        That reads every prediction, which must not keep others from writing.
        """
        number = 0
        for start, part in _parted_before_totals(items):
            if stream.attempt > 1 and part and part[0].HasField("inference"):
                async with self._store.read() as connection:
                    part[0].inference.CopyFrom(await over_all_attempts(connection, stream.job_id))
            number = await stream.take(first_number + start, part)
        return number

    def _check_place(self, artifact: result_pb2.Artifact, job_id: str, attempt: int) -> None:
        """An attempt may only publish what it stored itself."""
        try:
            key = self._artifacts.key_of(artifact.uri)
        except BadKey:
            key = None
        if key is None or not key.startswith(attempt_prefix(job_id, attempt)):
            text = (
                f"{artifact.uri!r} was not stored by this attempt. Publish the uri that StoreObject returned."
            )
            raise invalid(Reason.BAD_URI, "items.artifact.uri", text)

    async def GetResult(self, request: result_pb2.GetResultRequest, context: Context) -> result_pb2.Result:
        """Return the summary of a job."""
        job_id = names.job_id(request.name)
        async with self._store.read() as connection:
            await self._require(connection, job_id)
            result = await history.result(connection, job_id) or await _left_behind(connection, job_id)
        if result is None:
            name = names.job_name(job_id)
            text = (
                f"Job {name} has no result yet. Watch it with WatchProgress, and ask again when it has ended."
            )
            metadata = {"resource_type": "result", "resource_name": request.name}
            raise MeshError(grpc.StatusCode.NOT_FOUND, Reason.NOT_FOUND, text, metadata)
        return result

    async def ListPredictions(
        self, request: result_pb2.ListPredictionsRequest, context: Context
    ) -> result_pb2.ListPredictionsResponse:
        """List predictions by image."""
        job_id = names.job_id(request.parent)
        size = request.page_size or 100
        after = (pages.decode(request.page_token, request.parent, (int,)) or [-1])[0]
        async with self._store.read() as connection:
            await self._require(connection, job_id)
            found = await history.read_predictions(connection, job_id, after, size)
        token = pages.encode(request.parent, [found.items[-1].index]) if found.more else ""
        return result_pb2.ListPredictionsResponse(predictions=found.items, next_page_token=token)

    async def WatchPredictions(self, request: result_pb2.WatchPredictionsRequest, context: Context) -> None:
        """Send a job's predictions as they are made."""

        def bookmark(sequence: int) -> result_pb2.WatchPredictionsResponse:
            return result_pb2.WatchPredictionsResponse(
                sequence=sequence, bookmark=vision_pb2.Bookmark(sequence=sequence)
            )

        tail = Tail(self._reads, self._hub, self._patience, context, bookmark)
        await tail.follow(names.job_id(request.job), request.after_sequence)

    async def ListArtifacts(
        self, request: result_pb2.ListArtifactsRequest, context: Context
    ) -> result_pb2.ListArtifactsResponse:
        """List files by name."""
        job_id = names.job_id(request.parent)
        size = request.page_size or 100
        after = (pages.decode(request.page_token, request.parent, (str,)) or [""])[0]
        async with self._store.read() as connection:
            await self._require(connection, job_id)
            found = await history.read_artifacts(connection, job_id, after, size)
        token = ""
        if found.more:
            token = pages.encode(request.parent, [names.artifact_path(found.items[-1].name)])
        return result_pb2.ListArtifactsResponse(artifacts=found.items, next_page_token=token)

    async def DownloadArtifact(self, request: result_pb2.DownloadArtifactRequest, context: Context) -> None:
        """Send the bytes of a file."""
        job_id = names.job_id(request.artifact)
        async with self._store.read() as connection:
            found = await history.artifact(connection, job_id, names.artifact_path(request.artifact))
        if found is None:
            raise not_found("artifact", request.artifact)
        if request.read_offset > found.size_bytes:
            text = (
                f"read_offset {request.read_offset} is past the end; the file has {found.size_bytes} bytes."
            )
            raise MeshError(grpc.StatusCode.OUT_OF_RANGE, Reason.OUT_OF_RANGE, text)
        key = self._artifacts.key_of(found.uri)
        if key is None:
            raise not_found("artifact", request.artifact)
        opening = httpbody_pb2.HttpBody(content_type=found.content_type)
        opening.extensions.add().Pack(found)
        await context.write(opening)
        async for chunk in pieces(self._artifacts, key, request.artifact, request.read_offset):
            await context.write(httpbody_pb2.HttpBody(data=chunk))

    async def _require(self, connection: Connection, job_id: str) -> None:
        if await history.position(connection, job_id) is None:
            raise not_found("job", names.job_name(job_id))


async def _read(
    connection: Connection, job_id: str, after: int, limit: int, max_bytes: int
) -> history.Slice[tuple[int, result_pb2.WatchPredictionsResponse]]:
    found = await history.read_new_predictions(connection, job_id, after, limit, max_bytes)
    told = [
        (sequence, result_pb2.WatchPredictionsResponse(sequence=sequence, prediction=prediction))
        for sequence, prediction in found.items
    ]
    return history.Slice(told, found.more)


async def _left_behind(connection: Connection, job_id: str) -> result_pb2.Result | None:
    """The totals of predictions whose job has ended before an attempt could add them up; None without any."""
    job = await present.job(connection, job_id)
    if job is None or not job.HasField("end_time"):
        return None
    totals = await over_all_attempts(connection, job_id)
    if not totals.total_images:
        return None
    name = f"{names.job_name(job_id)}/result"
    return result_pb2.Result(name=name, attempt=job.attempt, partial=True, inference=totals)


def _parted_before_totals(
    items: Sequence[result_pb2.ResultItem],
) -> Iterator[tuple[int, Sequence[result_pb2.ResultItem]]]:
    """The items in parts, each with its place; totals begin a part."""
    places = [0, *(place for place, item in enumerate(items) if place and item.HasField("inference"))]
    for start, end in pairwise([*places, len(items)]):
        yield start, items[start:end]
