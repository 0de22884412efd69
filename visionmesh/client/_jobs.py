"""One job, seen from a client."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import grpc

from visionmesh import errors
from visionmesh.client._connection import Connection
from visionmesh.client._resume import resuming
from visionmesh.client._transfer import ProgressCallback, download
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2, vision_pb2

TERMINAL_STATES = frozenset(
    {vision_pb2.JOB_STATE_SUCCEEDED, vision_pb2.JOB_STATE_FAILED, vision_pb2.JOB_STATE_CANCELLED}
)
"""States that a job never leaves."""

_PAGE_SIZE = 500

_ProgressCall: TypeAlias = (
    "grpc.aio.UnaryStreamCall[progress_pb2.WatchProgressRequest, progress_pb2.WatchProgressResponse]"
)
_PredictionsCall: TypeAlias = (
    "grpc.aio.UnaryStreamCall[result_pb2.WatchPredictionsRequest, result_pb2.WatchPredictionsResponse]"
)


class AsyncJobHandle:
    """A job by name. Every method can raise MeshError."""

    name: str
    """jobs/{job}."""

    latest: job_pb2.Job | None
    """The job as this handle saw it last; None before it has."""

    def __init__(
        self, connection: Connection, name: str, patience: float, latest: job_pb2.Job | None = None
    ) -> None:
        self.name = name
        self.latest = latest
        self._connection = connection
        self._patience = patience

    async def get(self) -> job_pb2.Job:
        """The job as it is now."""
        request = job_pb2.GetJobRequest(name=self.name)
        self.latest = await self._connection.unary(self._connection.jobs.GetJob, request)
        return self.latest

    async def watch(self, after_sequence: int = 0) -> AsyncGenerator[progress_pb2.JobEvent, None]:
        """Every event after `after_sequence`, once, in order, until the job has ended.

        Goes on by itself where it was when the connection is lost, the scheduler restarts, or it
        cut a reader that was too slow.
        """
        connection, last = self._connection, after_sequence

        def open_call(
            position: int,
        ) -> _ProgressCall:
            request = progress_pb2.WatchProgressRequest(job=self.name, after_sequence=position)
            return connection.progress.WatchProgress(request)

        def advance(position: int, response: progress_pb2.WatchProgressResponse) -> int:
            return max(position, response.event.sequence, response.bookmark.sequence)

        responses = resuming(connection, open_call, after_sequence, advance, self._patience)
        async with aclosing(responses):
            async for response in responses:
                if response.HasField("event") and response.event.sequence > last:
                    last = response.event.sequence
                    yield response.event

    async def wait(self, timeout: float | None = None) -> job_pb2.Job:
        """The job when it has ended; after `timeout` seconds, MeshError with DEADLINE_EXCEEDED."""
        try:
            async with asyncio.timeout(timeout):
                async with aclosing(self.watch()) as events:
                    async for _ in events:
                        pass
                return await self.get()
        except TimeoutError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            message = (
                f"{self.name} has not ended within {timeout:g} s; it goes on. Wait longer, or cancel it."
            )
            raise MeshError(code, code.name, message, {"job": self.name}) from None

    async def cancel(self, grace: timedelta | None = None) -> job_pb2.Job:
        """Ask the job to stop; `grace` is its time to stop by itself, 30 s by default."""
        request = job_pb2.CancelJobRequest(name=self.name)
        if grace is not None:
            request.grace_period.FromTimedelta(grace)
        self.latest = await self._connection.unary(self._connection.jobs.CancelJob, request)
        return self.latest

    async def retry(self, request_id: str | None = None) -> "AsyncJobHandle":
        """A new job with the spec of this one, which must have ended."""
        request = job_pb2.RetryJobRequest(name=self.name, request_id=request_id or str(uuid.uuid4()))
        job = await self._connection.unary(self._connection.jobs.RetryJob, request)
        return AsyncJobHandle(self._connection, job.name, self._patience, job)

    async def delete(self) -> None:
        """Delete the job, which must have ended, with all that it left behind."""
        request = job_pb2.DeleteJobRequest(name=self.name)
        await self._connection.unary(self._connection.jobs.DeleteJob, request)

    async def explain(self) -> job_pb2.ExplainJobResponse:
        """Why the job is where it is."""
        request = job_pb2.ExplainJobRequest(name=self.name)
        return await self._connection.unary(self._connection.jobs.ExplainJob, request)

    def events(self, after_sequence: int = 0) -> AsyncIterator[progress_pb2.JobEvent]:
        """What is stored now of the job's events after `after_sequence`, in order; see also `watch`."""
        request = job_pb2.ListJobEventsRequest(
            parent=self.name, after_sequence=after_sequence, page_size=_PAGE_SIZE
        )
        return self._connection.pages(
            self._connection.jobs.ListJobEvents, request, lambda response: response.events
        )

    def metrics(self) -> AsyncIterator[progress_pb2.EpochMetrics]:
        """The metrics of each completed epoch of each attempt, in order."""
        request = progress_pb2.ListMetricsRequest(parent=self.name, page_size=_PAGE_SIZE)
        return self._connection.pages(
            self._connection.progress.ListMetrics, request, lambda response: response.epochs
        )

    async def result(self) -> result_pb2.Result:
        """The summary of what the job found; NOT_FOUND if it has none yet."""
        request = result_pb2.GetResultRequest(name=f"{self.name}/result")
        return await self._connection.unary(self._connection.results.GetResult, request)

    def predictions(self) -> AsyncIterator[result_pb2.ImagePrediction]:
        """What is stored now of the job's predictions, by image index."""
        request = result_pb2.ListPredictionsRequest(parent=self.name, page_size=_PAGE_SIZE)
        return self._connection.pages(
            self._connection.results.ListPredictions, request, lambda response: response.predictions
        )

    async def watch_predictions(
        self, after_sequence: int = 0
    ) -> AsyncGenerator[tuple[int, result_pb2.ImagePrediction], None]:
        """(sequence, prediction) for each prediction after `after_sequence`; resumes as `watch` does."""
        connection, last = self._connection, after_sequence

        def open_call(
            position: int,
        ) -> _PredictionsCall:
            request = result_pb2.WatchPredictionsRequest(job=self.name, after_sequence=position)
            return connection.results.WatchPredictions(request)

        def advance(position: int, response: result_pb2.WatchPredictionsResponse) -> int:
            return max(position, response.sequence)

        responses = resuming(connection, open_call, after_sequence, advance, self._patience)
        async with aclosing(responses):
            async for response in responses:
                if response.HasField("prediction") and response.sequence > last:
                    last = response.sequence
                    yield response.sequence, response.prediction

    def artifacts(self) -> AsyncIterator[result_pb2.Artifact]:
        """The files of the job, by name."""
        request = result_pb2.ListArtifactsRequest(parent=self.name, page_size=_PAGE_SIZE)
        return self._connection.pages(
            self._connection.results.ListArtifacts, request, lambda response: response.artifacts
        )

    async def download(
        self,
        artifact: result_pb2.Artifact | str,
        target: Path,
        on_progress: ProgressCallback | None = None,
    ) -> Path:
        """Fetch a file of the job, given as listed or by name ("best"), into the file `target`.

        `target` appears only when it is whole and its digest is right; a cut transfer goes on
        where it was. Raises MeshError: NOT_FOUND, or DATA_LOSS for damaged bytes.
        """
        if isinstance(artifact, str):
            artifact = await self._artifact(artifact)
        await download(self._connection, artifact, target, on_progress, self._patience)
        return target

    async def _artifact(self, name: str) -> result_pb2.Artifact:
        full = name if name.startswith("jobs/") else f"{self.name}/artifacts/{name}"
        async for artifact in self.artifacts():
            if artifact.name == full:
                return artifact
        raise errors.not_found("artifact", full)
