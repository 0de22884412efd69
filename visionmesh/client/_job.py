"""One job, seen from a synchronous client."""

import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path

from visionmesh import errors
from visionmesh.client import _job_calls as calls
from visionmesh.client._connection import Connection
from visionmesh.client._outcome import TERMINAL_STATES, check_succeeded, not_ended
from visionmesh.client._sync_transfer import download
from visionmesh.client._transfer import ProgressCallback
from visionmesh.errors import TimedOut
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2


class JobHandle:
    """A job by name. Every method can raise MeshError."""

    name: str
    """jobs/{job}."""

    latest: job_pb2.Job | None
    """The job as this handle saw it last; None before it has."""

    def __init__(self, connection: Connection, name: str, latest: job_pb2.Job | None = None) -> None:
        self.name = name
        self.latest = latest
        self._connection = connection

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def get(self) -> job_pb2.Job:
        """The job as it is now."""
        self.latest = self._connection.unary(calls.get(self.name))
        return self.latest

    def watch(self, after_sequence: int = 0) -> Generator[progress_pb2.JobEvent, None, None]:
        """Every event after `after_sequence`, once, in order, until the job has ended.

        Goes on by itself where it was when the connection is lost, the scheduler restarts, or it
        cut a reader that was too slow.
        """
        return self._connection.stream(calls.watch(self.name, after_sequence))

    def wait(self, timeout: float | None = None, *, check: bool = False) -> job_pb2.Job:
        """The job when it has ended, however it did.

        With `check`, raises JobFailed unless it succeeded. After `timeout` seconds, raises
        TimedOut, which is a TimeoutError; the job goes on.
        """
        until = None if timeout is None else time.monotonic() + timeout
        try:
            job = self.latest = self._connection.unary(calls.get(self.name), until)
            if job.state not in TERMINAL_STATES:
                for _ in self._connection.stream(calls.watch(self.name, job.sequence), until):
                    pass
                job = self.latest = self._connection.unary(calls.get(self.name), until)
        except TimedOut:
            if until is None or time.monotonic() < until:
                raise
            raise not_ended(self.name, timeout) from None
        return check_succeeded(job) if check else job

    def cancel(self, grace: timedelta | None = None) -> job_pb2.Job:
        """Ask the job to stop; `grace` is its time to stop by itself, 30 s by default."""
        self.latest = self._connection.unary(calls.cancel(self.name, grace))
        return self.latest

    def retry(self, request_id: str | None = None) -> "JobHandle":
        """A new job with the spec of this one, which must have ended."""
        job = self._connection.unary(calls.retry(self.name, request_id))
        return JobHandle(self._connection, job.name, job)

    def delete(self) -> None:
        """Delete the job, which must have ended, with all that it left behind."""
        self._connection.unary(calls.delete(self.name))

    def explain(self) -> job_pb2.ExplainJobResponse:
        """Why the job is where it is."""
        return self._connection.unary(calls.explain(self.name))

    def events(self, after_sequence: int = 0) -> Iterator[progress_pb2.JobEvent]:
        """What is stored now of the job's events after `after_sequence`, in order; see also `watch`."""
        return self._connection.pages(calls.events(self.name, after_sequence))

    def metrics(self) -> Iterator[progress_pb2.EpochMetrics]:
        """The metrics of each completed epoch of each attempt, in order."""
        return self._connection.pages(calls.metrics(self.name))

    def result(self) -> result_pb2.Result:
        """The summary of what the job found; NOT_FOUND if it has none yet."""
        return self._connection.unary(calls.result(self.name))

    def predictions(self) -> Iterator[result_pb2.ImagePrediction]:
        """What is stored now of the job's predictions, by image index."""
        return self._connection.pages(calls.predictions(self.name))

    def watch_predictions(
        self, after_sequence: int = 0
    ) -> Generator[tuple[int, result_pb2.ImagePrediction], None, None]:
        """(sequence, prediction) for each prediction after `after_sequence`; resumes as `watch` does."""
        return self._connection.stream(calls.watch_predictions(self.name, after_sequence))

    def artifacts(self) -> Iterator[result_pb2.Artifact]:
        """The files of the job, by name."""
        return self._connection.pages(calls.artifacts(self.name))

    def download(
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
            artifact = self._artifact(artifact)
        download(self._connection, artifact, target, on_progress)
        return target

    def _artifact(self, name: str) -> result_pb2.Artifact:
        full = calls.artifact_name(self.name, name)
        for artifact in self.artifacts():
            if artifact.name == full:
                return artifact
        raise errors.not_found("artifact", full)
