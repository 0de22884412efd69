"""What runners report, applied to the rows of their jobs.

Everything here happens inside one group commit: a write either gets its messages into the
transaction and is told the number that it reached, or is refused and leaves nothing behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

import grpc
import protovalidate
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from scheduler.core.machine import IllegalEvent
from scheduler.core.model import LIVE, AssignmentAccepted, AttemptEnded, AttemptStarted, AttemptState, Cause
from scheduler.store.record import JobRecord
from visionmesh import names
from visionmesh.errors import MeshError, Reason, not_found, superseded
from visionmesh.limits import MAX_ERROR_BYTES, MAX_ITEM_BYTES, MAX_UPDATE_BYTES
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2, vision_pb2

M = TypeVar("M", bound=Message)

SCHEDULER_ONLY = frozenset({"rejected", "state_changed"})


@dataclass(frozen=True)
class Problem:
    """Why a message can never be accepted."""

    reason: str
    """For programs."""
    message: str
    """For people."""


@dataclass
class StreamWrite(Generic[M]):
    """Consecutive messages of one stream of one attempt.

    They are checked as the write is made, while another transaction commits.
    """

    job_id: str
    attempt: int
    first_number: int
    messages: Sequence[M]
    problems: Sequence[Problem | None] = field(init=False)
    """What is wrong with each message, if anything is."""

    max_bytes: ClassVar[int] = MAX_ITEM_BYTES
    reason: ClassVar[str] = "INVALID"

    def __post_init__(self) -> None:
        self.problems = [self._problem(message) for message in self.messages]

    def _problem(self, message: M) -> Problem | None:
        if self.is_too_large(message):
            text = f"it takes {message.ByteSize()} bytes, and at most {self.max_bytes} are stored"
            return Problem(Reason.MESSAGE_TOO_LARGE, text)
        broken = self.broken_rules(message)
        return Problem(self.reason, broken) if broken else None

    @classmethod
    def is_too_large(cls, message: M) -> bool:
        """Whether watchers and lists could not be sent the message."""
        return message.ByteSize() > cls.max_bytes

    @staticmethod
    def broken_rules(message: Any) -> str:
        """What is wrong with a message; empty if nothing is."""
        violations = protovalidate.collect_violations(message)
        return "; ".join(violation.proto.message for violation in violations)


class ProgressWrite(StreamWrite[progress_pb2.ProgressUpdate]):
    """Part of a ReportProgress stream."""

    max_bytes = MAX_UPDATE_BYTES
    reason = "INVALID_UPDATE"

    @classmethod
    def is_too_large(cls, message: progress_pb2.ProgressUpdate) -> bool:
        """The end of an attempt is never turned away: its error is cut instead."""
        return not message.HasField("attempt_ended") and super().is_too_large(message)

    @staticmethod
    def broken_rules(message: Any) -> str:
        """What is wrong with an update; empty if nothing is."""
        kind = message.WhichOneof("update")
        if kind is None:
            return "it holds no update that this scheduler knows"
        if kind in SCHEDULER_ONLY:
            return f"{kind} is written by the scheduler only"
        # Every rule is about what is inside; without the walk through the oneof it takes a third of the time.
        return StreamWrite.broken_rules(getattr(message, kind))


class ResultsWrite(StreamWrite[result_pb2.ResultItem]):
    """Part of a PublishResults stream."""

    reason = "INVALID_RESULT"


@dataclass
class Found:
    """Rows beside the job's own that a group commit inserts."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    known_images: set[tuple[str, int]] = field(default_factory=set)
    """(job, image index) of predictions that are stored already."""


@dataclass
class Reached:
    """How far a write came."""

    committed_number: int
    error: MeshError | None = None
    """Why the rest was refused."""


def apply_write(record: JobRecord | None, write: StreamWrite[Any], now: datetime, found: Found) -> Reached:
    """Apply one write to its job. Raises MeshError if nothing of it can be accepted."""
    if record is None:
        raise not_found("job", names.job_name(write.job_id))
    progress = isinstance(write, ProgressWrite)
    committed = _committed(record, write, progress)
    expected = committed + 1
    if write.first_number > expected:
        raise sequence_gap(expected, write.first_number)
    known = expected - write.first_number
    new = list(zip(write.messages[known:], write.problems[known:], strict=True))
    if not new:
        return Reached(committed)
    if record.job.attempt_state not in LIVE:
        raise superseded(names.job_name(record.id), write.attempt)
    if record.job.attempt_state is AttemptState.ASSIGNED:
        record.apply(AssignmentAccepted(), now)  # the work has overtaken the answer on another stream
    reached = _apply_all(record, write, new, committed, now, found)
    _advance(record, progress, reached.committed_number)
    return reached


def _apply_all(
    record: JobRecord,
    write: StreamWrite[Any],
    new: Sequence[tuple[Any, Problem | None]],
    committed: int,
    now: datetime,
    found: Found,
) -> Reached:
    """Apply messages, each with what is wrong with it, up to the first that is refused."""
    reached = Reached(committed)
    for message, problem in new:
        if record.job.attempt_state not in LIVE:  # it ended within this very request
            reached.error = superseded(names.job_name(record.id), write.attempt)
            break
        number = reached.committed_number + 1
        try:
            if isinstance(write, ProgressWrite):
                _apply_update(record, message, number, problem, now, found)
            elif problem is None:
                _apply_item(record, message, now, found)
            else:
                _reject(record, number, problem, now)
        except MeshError as error:
            reached.error = error
            break
        reached.committed_number = number
    return reached


def _committed(record: JobRecord, write: StreamWrite[Any], progress: bool) -> int:
    if record.attempt is None or record.job.attempt != write.attempt:
        raise superseded(names.job_name(record.id), write.attempt)
    return record.attempt.progress_number if progress else record.attempt.results_number


def _advance(record: JobRecord, progress: bool, number: int) -> None:
    if record.attempt is None:
        return
    column = "progress_number" if progress else "results_number"
    setattr(record.attempt, column, number)
    record.attempt.values[column] = number


def sequence_gap(expected: int, got: int) -> MeshError:
    """OUT_OF_RANGE: a number was skipped."""
    message = f"Message {got} came where {expected} was expected. Go on from {expected}."
    return MeshError(
        grpc.StatusCode.OUT_OF_RANGE, Reason.SEQUENCE_GAP, message, {"expected_number": str(expected)}
    )


def _apply_update(
    record: JobRecord,
    update: progress_pb2.ProgressUpdate,
    number: int,
    problem: Problem | None,
    now: datetime,
    found: Found,
) -> None:
    if problem is None:
        try:
            _follow(record, update, now)
        except IllegalEvent as illegal:
            problem = Problem(ProgressWrite.reason, str(illegal))
    if problem is not None:
        _reject(record, number, problem, now, update.event_time)
        return
    if update.WhichOneof("update") == "epoch_completed":
        found.epochs.append(
            {
                "job_id": record.id,
                "sequence": record.sequence,
                "attempt": record.job.attempt,
                "payload": update.epoch_completed.SerializeToString(),
            }
        )


def _reject(
    record: JobRecord,
    number: int,
    problem: Problem,
    now: datetime,
    event_time: Timestamp | None = None,
) -> None:
    """Put what was wrong into the history, in the place of a message that can never be accepted."""
    rejected = progress_pb2.Rejected(number=number, reason=problem.reason, message=problem.message)
    update = progress_pb2.ProgressUpdate(event_time=event_time, rejected=rejected)
    if event_time is None:
        update.event_time.FromDatetime(now)
    record.append(update, now)


def _follow(record: JobRecord, update: progress_pb2.ProgressUpdate, now: datetime) -> None:
    """Let the job follow the update, and put it into the history."""
    kind = update.WhichOneof("update")
    if kind == "attempt_ended":
        _end_attempt(record, update, now)
        return
    if kind == "attempt_started":
        record.apply(AttemptStarted(), now)
        started = update.attempt_started
        known = job_pb2.Reproducibility(
            package_versions=started.package_versions, seed=started.seed, hardware=started.hardware
        )
        before = job_pb2.Reproducibility.FromString(record.reproducibility)
        known.dataset_digest = before.dataset_digest
        record.values["reproducibility"] = known.SerializeToString()
    if summarize(record.progress, update):
        record.progress_changed = True
    record.append(update, now)


def _end_attempt(record: JobRecord, update: progress_pb2.ProgressUpdate, now: datetime) -> None:
    ended = update.attempt_ended
    stored = record.attempt.results_number if record.attempt else 0
    if ended.results_number != stored:
        message = (
            f"attempt_ended speaks of {ended.results_number} results, {stored} are stored. "
            "Send the rest on PublishResults, wait for the acknowledgement, then end the attempt."
        )
        metadata = {"job": names.job_name(record.id), "stored_number": str(stored)}
        raise MeshError(grpc.StatusCode.FAILED_PRECONDITION, Reason.RESULTS_OUTSTANDING, message, metadata)
    outcome = AttemptState(vision_pb2.AttemptState.Name(ended.outcome).removeprefix("ATTEMPT_STATE_"))
    cause = Cause(vision_pb2.AttemptCause.Name(ended.cause).removeprefix("ATTEMPT_CAUSE_"))
    if ended.HasField("error"):
        _shorten(ended.error)
    error = ended.error if ended.HasField("error") else None
    before = len(record.event_rows), record.sequence
    record.append(update, now)
    try:
        record.apply(AttemptEnded(outcome, cause), now, error, error.message if error else "")
    except IllegalEvent:
        del record.event_rows[before[0] :]
        record.sequence = before[1]
        raise


def _shorten(error: status_pb2.Status) -> None:
    """Cut an error that would make its job too large to be listed."""
    if error.ByteSize() <= MAX_ERROR_BYTES:
        return
    longest = MAX_ERROR_BYTES // 2
    error.message = error.message.encode()[:longest].decode(errors="ignore") + "…"
    while error.ByteSize() > MAX_ERROR_BYTES and error.details:
        del error.details[-1]  # the ErrorInfo comes first, and is short


def summarize(progress: job_pb2.JobProgress, update: progress_pb2.ProgressUpdate) -> bool:
    """Bring a job's progress up to date; returns whether anything changed."""
    match update.WhichOneof("update"):
        case "attempt_started":
            done = progress.images_done, progress.images_total
            progress.Clear()
            progress.images_done, progress.images_total = done
        case "stage_changed":
            progress.stage = update.stage_changed.stage
        case "epoch_completed":
            epoch = update.epoch_completed
            progress.epoch, progress.total_epochs = epoch.epoch, epoch.total_epochs
            progress.fraction = min(1.0, epoch.epoch / epoch.total_epochs)
            progress.eta.CopyFrom(epoch.eta)
            progress.metrics.clear()
            progress.metrics.update(epoch.metrics)
        case "batch_progress":
            _summarize_batches(progress, update.batch_progress)
        case "images_progress":
            images = update.images_progress
            progress.images_done, progress.images_total = images.images_done, images.images_total
            progress.fraction = images.images_done / images.images_total if images.images_total else 0.0
            progress.eta.CopyFrom(images.eta)
        case _:
            return False
    return True


def _summarize_batches(progress: job_pb2.JobProgress, batch: progress_pb2.BatchProgress) -> None:
    within = batch.batch / batch.total_batches if batch.total_batches else 0.0
    if batch.epoch and progress.total_epochs:
        progress.fraction = min(1.0, (batch.epoch - 1 + within) / progress.total_epochs)
    elif not batch.epoch:
        progress.fraction = min(1.0, within)


def _apply_item(record: JobRecord, item: result_pb2.ResultItem, now: datetime, found: Found) -> None:
    match item.WhichOneof("item"):
        case "prediction" if (record.id, item.prediction.index) in found.known_images:
            pass  # an earlier attempt has predicted it: kept as it is
        case "prediction":
            found.known_images.add((record.id, item.prediction.index))
            found.predictions.append(
                {
                    "job_id": record.id,
                    "image_index": item.prediction.index,
                    "sequence": record.next_sequence(),
                    "attempt": record.job.attempt,
                    "payload": item.prediction.SerializeToString(),
                }
            )
        case "artifact":
            _keep_artifact(record, item.artifact, now, found)
        case _:
            keep_summary(record, item)


def _keep_artifact(record: JobRecord, artifact: result_pb2.Artifact, now: datetime, found: Found) -> None:
    artifact.attempt = record.job.attempt
    artifact.create_time.FromDatetime(now)
    path = names.artifact_path(artifact.name)
    artifact.name = names.artifact_name(record.id, path)
    found.artifacts.append(
        {"job_id": record.id, "path": path, "key": artifact.uri, "payload": artifact.SerializeToString()}
    )


def keep_summary(record: JobRecord, item: result_pb2.ResultItem) -> None:
    """Keep the summary of a job in the place of an earlier one."""
    result = result_pb2.Result(
        name=f"{names.job_name(record.id)}/result",
        attempt=record.job.attempt,
        training=item.training if item.HasField("training") else None,
        validation=item.validation if item.HasField("validation") else None,
        inference=item.inference if item.HasField("inference") else None,
    )
    record.values["result"] = result.SerializeToString()
    if item.HasField("validation"):
        record.progress.metrics.clear()
        record.progress.metrics.update(item.validation.metrics)
        record.progress_changed = True
