"""The two streams of an attempt, each with its journal."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runners.agent.journal import SEGMENT_BYTES, Identity, Journal
from runners.agent.kept import OnDisk
from runners.agent.outbox import HISTORY_BYTES, Outbox
from runners.agent.oversized import smaller_result, smaller_update
from runners.agent.stream import NumberedStream
from visionmesh import names
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import (
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    runner_pb2,
)

Progress = NumberedStream[progress_pb2.ProgressUpdate, progress_pb2.ReportProgressResponse]
Results = NumberedStream[result_pb2.ResultItem, result_pb2.PublishResultsResponse]

JOURNAL_BYTES = 256 * 1024 * 1024
"""Most bytes on disk for an attempt, both streams together, with what is kept as history."""


@dataclass(frozen=True)
class Journals:
    """Where attempts keep what is not acknowledged."""

    folder: Path
    """Each attempt has a folder of its own below it."""

    limit_bytes: int = JOURNAL_BYTES
    """Most bytes for an attempt."""

    def of(self, ref: runner_pb2.AttemptRef) -> Path:
        """The folder of an attempt."""
        return self.folder / f"{names.job_id(ref.job)}-{ref.attempt}"

    @property
    def waiting_bytes(self) -> int:
        """Unacknowledged bytes from which a stream makes the job process wait."""
        return max(self.limit_bytes // 2 - HISTORY_BYTES - SEGMENT_BYTES, SEGMENT_BYTES)


class Streams:
    """Progress and results of one attempt. Make it inside a running event loop."""

    def __init__(
        self,
        ref: runner_pb2.AttemptRef,
        journals: Journals,
        progress: "progress_pb2_grpc.ProgressServiceAsyncStub",
        results: "result_pb2_grpc.ResultServiceAsyncStub",
        *,
        recover: bool = False,
    ) -> None:
        """With `recover` it begins with what an agent before this one has left, else with nothing."""
        self._folder = journals.of(ref)
        self._journals: dict[str, Journal] = {}
        if not recover:
            self.remove()
        self._journals = {
            name: Journal(self._folder, _identity(ref, name)) for name in ("progress", "results")
        }
        updates = OnDisk(self._journals["progress"], progress_pb2.ProgressUpdate)
        items = OnDisk(self._journals["results"], result_pb2.ResultItem)
        updates_box, items_box = Outbox(kept=updates), Outbox(kept=items)
        self.ends = False
        """Whether what was recovered holds the end of the attempt."""
        if recover:
            updates_box.take_over(updates.recover())
            items_box.take_over(items.recover())
            last = updates_box.last_number
            self.ends = last > 0 and updates.get(last).HasField("attempt_ended")
        self.progress: Progress = NumberedStream(
            "progress",
            progress.ReportProgress,
            progress_pb2.ReportProgressRequest(job=ref.job, attempt=ref.attempt),
            _progress_request,
            on_refusal=self._on_refusal,
            smaller=smaller_update,
            outbox=updates_box,
            limit_bytes=journals.waiting_bytes,
        )
        self.results: Results = NumberedStream(
            "results",
            results.PublishResults,
            result_pb2.PublishResultsRequest(job=ref.job, attempt=ref.attempt),
            _results_request,
            smaller=smaller_result,
            outbox=items_box,
            limit_bytes=journals.waiting_bytes,
        )

    def _on_refusal(self, error: MeshError) -> None:
        if error.reason == Reason.RESULTS_OUTSTANDING:
            self.results.reopen()  # the scheduler has lost some: it will say which

    def remove(self) -> None:
        """Remove the journals from the disk: nothing of them is wanted any more."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the files; what is on disk stays."""
        for journal in self._journals.values():
            journal.close()


def _identity(ref: runner_pb2.AttemptRef, stream: str) -> Identity:
    return Identity(ref.job, ref.attempt, stream)


def _progress_request(
    first: int, updates: Sequence[progress_pb2.ProgressUpdate]
) -> progress_pb2.ReportProgressRequest:
    return progress_pb2.ReportProgressRequest(first_number=first, updates=updates)


def _results_request(first: int, items: Sequence[result_pb2.ResultItem]) -> result_pb2.PublishResultsRequest:
    return result_pb2.PublishResultsRequest(first_number=first, items=items)
