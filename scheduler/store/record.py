"""The one way in which a job's row changes.

A JobRecord is a job's row, locked by the transaction that loaded it, with what is to be written.
Events of the state machine and of the job's history are applied in memory; `flush` writes them
with a guarded UPDATE. The sequence of the history comes from the row too, so commit order is
sequence order.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from google.rpc.status_pb2 import Status
from sqlalchemy import CursorResult, RowMapping, insert, select, update

from scheduler.core import machine
from scheduler.core.model import (
    AttemptState,
    BeginAttempt,
    Cause,
    ChangeState,
    EndAttempt,
    Event,
    Instruction,
    Job,
    JobState,
    RetryPolicy,
    StopAttempt,
    TellDependents,
)
from scheduler.store.engine import Connection
from scheduler.store.schema import attempts, events, jobs, micros
from visionmesh.v1 import job_pb2, progress_pb2, vision_pb2

_STATE = {state: vision_pb2.JobState.Value(f"JOB_STATE_{state}") for state in JobState if state != "NEW"}


class Conflict(Exception):
    """The row is not as it was loaded. Cannot happen to a locked row: a defect if it does."""


@dataclass(frozen=True)
class Stop:
    """A runner is to be told to stop an attempt."""

    runner_id: str
    job_id: str
    attempt: int
    grace_period: timedelta
    cause: Cause


@dataclass
class Effects:
    """What is to be done once the transaction is committed."""

    changed: set[str] = field(default_factory=set)
    """Jobs with news for their watchers."""
    claimable: bool = False
    """A job may be claimed, or a place on a runner is free."""
    ended: bool = False
    """A job has ended: others may have waited for it."""
    timed: bool = False
    """A job waits for a moment: the end of a backoff, or of its time in the queue."""
    stops: list[Stop] = field(default_factory=list)

    def add(self, other: "Effects") -> None:
        """Take in what another part of the transaction leads to."""
        self.changed |= other.changed
        self.claimable |= other.claimable
        self.ended |= other.ended
        self.timed |= other.timed
        self.stops += other.stops


@dataclass
class AttemptRow:
    """The newest attempt of a job."""

    number: int
    runner_id: str
    incarnation: str = ""
    gpu_indices: str = ""
    progress_number: int = 0
    results_number: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    """Columns to write."""
    is_new: bool = False


class JobRecord:
    """A job's row while a transaction holds it."""

    def __init__(self, row: RowMapping, attempt: AttemptRow | None) -> None:
        self.id: str = row["id"]
        self.spec: bytes = row["spec"]
        self.kind: str = row["kind"]
        self.order_key: int = row["order_key"]
        self.job = Job(
            state=JobState(row["state"]),
            attempt=row["attempt"],
            attempt_state=AttemptState(row["attempt_state"]) if row["attempt_state"] else None,
            failure_count=row["failure_count"],
            cancel_requested=row["cancel_requested"],
            waiting_for=row["waiting_for"],
            retry_time=row["retry_time"],
        )
        self.attempt = attempt
        self.sequence: int = row["sequence"]
        self._progress_bytes: bytes = row["progress"]
        self._progress: job_pb2.JobProgress | None = None
        self.progress_changed = False
        """Whether `progress` is to be written."""
        self.start_time: datetime | None = row["start_time"]
        self.reproducibility: bytes = row["reproducibility"]
        self.values: dict[str, Any] = {}
        self.event_rows: list[dict[str, Any]] = []
        self.effects = Effects()
        self._loaded = (self.job, self.sequence)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        attempt_changed = self.attempt is not None and (self.attempt.is_new or bool(self.attempt.values))
        changed = bool(self.values) or self.progress_changed or attempt_changed
        return changed or self._loaded != (self.job, self.sequence)

    @property
    def progress(self) -> job_pb2.JobProgress:
        """How far the job is; whoever changes it says so by `progress_changed`."""
        if self._progress is None:
            self._progress = job_pb2.JobProgress.FromString(self._progress_bytes)
        return self._progress

    def spec_message(self) -> job_pb2.Job:
        """The job as it was accepted."""
        return job_pb2.Job.FromString(self.spec)

    def apply(self, event: Event, now: datetime, error: Status | None = None, message: str = "") -> None:
        """Apply an event of the state machine. `error` goes with the end of an attempt or the job.

        Raises IllegalEvent, and changes nothing then.
        """
        facts = replace(self.job, retry=self._retry_policy())
        step = machine.step(facts, event, now, random.random())  # noqa: S311 - jitter, not a secret
        self.job = replace(step.job, retry=self.job.retry)
        for instruction in step.instructions:
            self._carry_out(instruction, now, error, message)
        self._follow_attempt_state(now)
        self.effects.changed.add(self.id)

    def append(self, progress: progress_pb2.ProgressUpdate, now: datetime, attempt: int | None = None) -> int:
        """Add an event to the history; returns its sequence."""
        sequence = self.next_sequence()
        self.event_rows.append(
            {
                "job_id": self.id,
                "sequence": sequence,
                "attempt": self.job.attempt if attempt is None else attempt,
                "kind": progress.WhichOneof("update"),
                "commit_time": now,
                "payload": progress.SerializeToString(),
            }
        )
        return sequence

    def next_sequence(self) -> int:
        """Take the next number of the job's history."""
        self.sequence += 1
        self.effects.changed.add(self.id)
        return self.sequence

    def _retry_policy(self) -> RetryPolicy:
        policy = self.spec_message().retry_policy
        return RetryPolicy(
            policy.max_attempts,
            policy.initial_backoff.ToTimedelta(),
            policy.max_backoff.ToTimedelta(),
            policy.multiplier,
        )

    def _carry_out(self, instruction: Instruction, now: datetime, error: Status | None, message: str) -> None:
        match instruction:
            case ChangeState():
                self._change_state(instruction, now, error, message)
            case BeginAttempt():
                values = {"assign_time": now, "cause": Cause.UNSPECIFIED}
                self.attempt = AttemptRow(instruction.number, instruction.runner, is_new=True, values=values)
            case EndAttempt() if self.attempt:
                self.attempt.values |= {"cause": instruction.cause, "end_time": now}
                if error is not None and instruction.outcome is not AttemptState.SUCCEEDED:
                    self.attempt.values["error"] = error.SerializeToString()
                self.effects.claimable = True
            case StopAttempt() if self.attempt:
                stop = Stop(
                    self.attempt.runner_id,
                    self.id,
                    instruction.number,
                    instruction.grace_period,
                    instruction.cause,
                )
                self.effects.stops.append(stop)
            case TellDependents():
                self.effects.ended = True

    def _change_state(self, change: ChangeState, now: datetime, error: Status | None, message: str) -> None:
        changed = progress_pb2.StateChanged(
            from_state=_STATE.get(change.source, vision_pb2.JOB_STATE_UNSPECIFIED),
            to_state=_STATE[change.target],
            reason=change.reason,
            message=message,
        )
        if change.retry_time is not None and change.target is JobState.PENDING:
            changed.retry_time.FromDatetime(change.retry_time)
        update_ = progress_pb2.ProgressUpdate(state_changed=changed)
        update_.event_time.FromDatetime(now)
        self.append(update_, now)
        if change.target is JobState.QUEUED:
            self._enter_queue(change, now)
        elif change.target is JobState.RUNNING:
            self.start_time = now
            self.values["start_time"] = now
        elif change.target in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}:
            self.values["end_time"] = now
        if change.target is JobState.FAILED and error is not None:
            self.values["error"] = error.SerializeToString()

    def _enter_queue(self, change: ChangeState, now: datetime) -> None:
        self.values["queue_time"] = now
        timeout = self.spec_message().queue_timeout.ToTimedelta()
        self.values["queue_deadline"] = now + timeout if timeout else None
        if change.source is not JobState.RUNNING:  # a job that was handed back keeps its place
            self.order_key = micros(now)
            self.values["order_key"] = self.order_key

    def _follow_attempt_state(self, now: datetime) -> None:
        if self.attempt is None:
            return
        self.attempt.values["state"] = self.job.attempt_state
        if self.job.attempt_state is AttemptState.RUNNING:
            self.attempt.values["start_time"] = now

    @property
    def claimable(self) -> bool:
        """Whether a runner may take the job."""
        return self.job.state is JobState.QUEUED and not self.job.live

    async def flush(self, connection: Connection, now: datetime) -> None:
        """Write what has changed. Raises Conflict if the row is not as it was loaded."""
        job, sequence = self._loaded
        guard = (
            jobs.c.id == self.id,
            jobs.c.state == job.state,
            jobs.c.attempt == job.attempt,
            jobs.c.sequence == sequence,
        )
        if self.progress_changed:
            self.values["progress"] = self.progress.SerializeToString()
        values = self.values | {
            "state": self.job.state,
            "attempt": self.job.attempt,
            "attempt_state": self.job.attempt_state,
            "failure_count": self.job.failure_count,
            "cancel_requested": self.job.cancel_requested,
            "waiting_for": self.job.waiting_for,
            "retry_time": self.job.retry_time,
            "claimable": self.claimable,
            "sequence": self.sequence,
            "update_time": now,
        }
        result: CursorResult[Any] = await connection.execute(update(jobs).where(*guard).values(values))
        if result.rowcount != 1:
            raise Conflict(f"row of job {self.id} changed while it was locked")
        await self._flush_attempt(connection)
        self.effects.claimable |= self.claimable
        self.effects.timed |= self.job.retry_time is not None or self.values.get("queue_deadline") is not None

    async def _flush_attempt(self, connection: Connection) -> None:
        row = self.attempt
        if row is None or not (row.values or row.is_new):
            return
        if row.is_new:
            values = row.values | {
                "job_id": self.id,
                "number": row.number,
                "runner_id": row.runner_id,
                "incarnation": row.incarnation,
                "gpu_indices": row.gpu_indices,
            }
            await connection.execute(insert(attempts).values(values))
        else:
            mine = (attempts.c.job_id == self.id, attempts.c.number == row.number)
            await connection.execute(update(attempts).where(*mine).values(row.values))


async def load(connection: Connection, job_ids: Iterable[str]) -> dict[str, JobRecord]:
    """Lock and load the rows of jobs, in order of id so that two transactions never deadlock."""
    wanted = sorted(set(job_ids))
    newest = (attempts.c.job_id == jobs.c.id) & (attempts.c.number == jobs.c.attempt)
    query = (
        select(
            *_JOB_COLUMNS,
            attempts.c.number,
            attempts.c.runner_id,
            attempts.c.incarnation,
            attempts.c.gpu_indices,
            attempts.c.progress_number,
            attempts.c.results_number,
        )
        .select_from(jobs.outerjoin(attempts, newest))
        .where(jobs.c.id.in_(wanted))
        .order_by(jobs.c.id)
        .with_for_update(of=jobs)
    )
    if connection.dialect_name == "postgresql":
        # Locks first: a row that was waited for is read anew, but not the attempt that is joined to it.
        lock = select(jobs.c.id).where(jobs.c.id.in_(wanted)).order_by(jobs.c.id).with_for_update()
        await connection.execute(lock)
    rows = (await connection.execute(query)).mappings()
    return {row["id"]: JobRecord(row, _attempt_row(row)) for row in rows}


def _attempt_row(row: RowMapping) -> AttemptRow | None:
    if row["number"] is None:
        return None
    return AttemptRow(
        row["number"],
        row["runner_id"],
        row["incarnation"],
        row["gpu_indices"],
        row["progress_number"],
        row["results_number"],
    )


_JOB_COLUMNS = [
    jobs.c[name]
    for name in (
        "id",
        "kind",
        "spec",
        "state",
        "attempt",
        "attempt_state",
        "failure_count",
        "cancel_requested",
        "waiting_for",
        "retry_time",
        "order_key",
        "sequence",
        "progress",
        "reproducibility",
        "start_time",
    )
]


async def flush_all(connection: Connection, records: Iterable[JobRecord], now: datetime) -> Effects:
    """Write several records, their events in one go; returns their effects together."""
    together = Effects()
    rows: list[dict[str, Any]] = []
    for record in records:
        await record.flush(connection, now)
        rows += record.event_rows
        together.add(record.effects)
    if rows:
        await connection.execute(insert(events), rows)
    return together
