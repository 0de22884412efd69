"""Applies one event to one job: facts in, facts and instructions out."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scheduler.core.model import (
    TERMINAL,
    Assigned,
    AssignmentAccepted,
    AttemptEnded,
    AttemptStarted,
    AttemptState,
    BeginAttempt,
    CancelRequested,
    Cause,
    ChangeState,
    Created,
    DependencySucceeded,
    EndAttempt,
    Event,
    Instruction,
    Job,
    JobState,
    RetryPolicy,
    StopAttempt,
    TellDependents,
)
from scheduler.core.table import TABLE, Row

JITTER = 0.2

COUNTED = frozenset({"USER_ERROR", "ATTEMPTS_EXHAUSTED", "RETRY_SCHEDULED"})
"""Reasons of the rows in which an attempt counts as a failure."""


class IllegalEvent(Exception):
    """The event cannot happen to a job in this state; nothing changed."""

    def __init__(self, job: Job, event: Event) -> None:
        self.job, self.event = job, event
        attempt = f", attempt {job.attempt_state}" if job.attempt_state else ""
        super().__init__(f"{type(event).__name__} cannot happen to a job that is {job.state}{attempt}")


@dataclass(frozen=True)
class Step:
    """What one event leads to."""

    job: Job
    instructions: tuple[Instruction, ...]
    reason: str


def step(job: Job, event: Event, now: datetime, jitter: float = 0.5) -> Step:
    """Apply `event`; `jitter` in [0, 1] spreads the backoff. Raises IllegalEvent."""
    row = _row(job, event)
    after, doing = _act(job, event, row, now, jitter)
    after = replace(after, state=row.target)
    instructions = list(doing)
    if row.target is not job.state:
        instructions.append(ChangeState(job.state, row.target, row.reason, after.retry_time))
    if row.target in TERMINAL:
        instructions.append(TellDependents(row.target is JobState.SUCCEEDED))
    return Step(after, tuple(instructions), row.reason)


def _row(job: Job, event: Event) -> Row:
    for row in TABLE:
        if row.source is job.state and row.event is type(event) and row.guard(job, event):
            return row
    raise IllegalEvent(job, event)


def _act(
    job: Job, event: Event, row: Row, now: datetime, jitter: float
) -> tuple[Job, tuple[Instruction, ...]]:
    match event:
        case Created():
            return replace(job, waiting_for=event.waiting_for), ()
        case DependencySucceeded():
            return replace(job, waiting_for=job.waiting_for - 1), ()
        case CancelRequested():
            return _cancel(job, event)
        case Assigned():
            number = job.attempt + 1
            after = replace(job, attempt=number, attempt_state=AttemptState.ASSIGNED, retry_time=None)
            return after, (BeginAttempt(number, event.runner),)
        case AssignmentAccepted():
            return replace(job, attempt_state=AttemptState.PREPARING), ()
        case AttemptStarted():
            return replace(job, attempt_state=AttemptState.RUNNING), ()
        case AttemptEnded():
            return _end(job, event, row, now, jitter)
    return replace(job, retry_time=None), ()


def _cancel(job: Job, event: CancelRequested) -> tuple[Job, tuple[Instruction, ...]]:
    after = replace(job, cancel_requested=True)
    if not job.live:
        return after, ()
    if job.state is JobState.RUNNING:
        if job.cancel_requested:
            return after, ()  # asked before: the first grace period holds
        stop = StopAttempt(job.attempt, event.grace_period, Cause.CANCELLED)
        return replace(after, attempt_state=AttemptState.CANCELLING), (stop,)
    # The process has not started: nothing to be graceful about.
    end = EndAttempt(job.attempt, AttemptState.CANCELLED, Cause.CANCELLED)
    stop = StopAttempt(job.attempt, timedelta(0), Cause.CANCELLED)
    return replace(after, attempt_state=AttemptState.CANCELLED), (end, stop)


def _end(
    job: Job, event: AttemptEnded, row: Row, now: datetime, jitter: float
) -> tuple[Job, tuple[Instruction, ...]]:
    outcome, cause = event.outcome, event.cause
    if row.target is JobState.CANCELLED:
        outcome, cause = AttemptState.CANCELLED, Cause.CANCELLED
    after = replace(job, attempt_state=outcome)
    if row.reason in COUNTED:
        after = replace(after, failure_count=job.failure_count + 1)
    if row.target is JobState.PENDING:
        wait = backoff(after.failure_count, job.retry, jitter)
        after = replace(after, retry_time=now + wait)
    return after, (EndAttempt(job.attempt, outcome, cause),)


def backoff(failures: int, policy: RetryPolicy, jitter: float) -> timedelta:
    """Wait after failure number `failures` (from 1): exponential, capped, +-20 % by `jitter` in [0, 1]."""
    # The exponent is bounded so that a float can hold the product; the cap is reached long before.
    factor = policy.multiplier ** min(failures - 1, 60)
    seconds = min(policy.initial_backoff.total_seconds() * factor, policy.max_backoff.total_seconds())
    return timedelta(seconds=seconds * (1 + JITTER * (2 * jitter - 1)))
