"""The life of a job as one table.

Theory of operation. A row says: in state `source`, when `event` happens and `guard` holds, the
job goes to `target` for `reason`. Rows are tried from top to bottom and the first that fits is
taken, so a row without a guard is the "otherwise" of those above it. An event that no row fits
is illegal: it raises and changes nothing. Terminal states are no row's source, so terminal is
final.

An attempt is a try at the job on one runner. Its number rises with every assignment and is the
fence: what an older attempt sends is refused. A job stays QUEUED while a runner prepares it, and
is RUNNING from the job process's start on. `failure_count`, compared with `max_attempts`, rises
with failed and lost attempts; attempts that a runner handed back, or never accepted, are free.

A cancel request ends a waiting job at once. A running job ends when its attempt does, however
that ends, except that an attempt which had already succeeded keeps its success.

The diagram in docs/architecture.md is drawn from this table by `python -m scheduler.core.diagram`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.core.model import (
    Assigned,
    AssignmentAccepted,
    AttemptEnded,
    AttemptStarted,
    AttemptState,
    BackoffOver,
    CancelRequested,
    Cause,
    Created,
    DependencyFailed,
    DependencySucceeded,
    Event,
    Job,
    JobState,
    QueueTimedOut,
)

Guard = Callable[[Job, Event], bool]


def always(_job: Job, _event: Event) -> bool:
    """No condition."""
    return True


def has_dependencies(_job: Job, event: Event) -> bool:
    """Some dependency has not succeeded yet."""
    return isinstance(event, Created) and event.waiting_for > 0


def waits_for_others(job: Job, _event: Event) -> bool:
    """Other dependencies are left after the one that succeeded."""
    return job.waiting_for > 1


def was_the_last(job: Job, _event: Event) -> bool:
    """It was the last dependency."""
    return job.waiting_for == 1


def waits(job: Job, _event: Event) -> bool:
    """It waits for other jobs, not for a backoff."""
    return job.waiting_for > 0


def no_dependencies_left(job: Job, _event: Event) -> bool:
    """It waits for no other job."""
    return job.waiting_for == 0


def unassigned(job: Job, _event: Event) -> bool:
    """No live attempt."""
    return not job.live


def offered(job: Job, _event: Event) -> bool:
    """The attempt has been offered, and not been answered."""
    return job.attempt_state is AttemptState.ASSIGNED


def preparing(job: Job, _event: Event) -> bool:
    """The attempt was accepted, and its process has not started."""
    return job.attempt_state is AttemptState.PREPARING


def succeeded(job: Job, event: Event) -> bool:
    """The attempt did what it should."""
    return job.live and _outcome(event) is AttemptState.SUCCEEDED


def cancelled(job: Job, _event: Event) -> bool:
    """The attempt ended, and a cancel had been requested."""
    return job.live and job.cancel_requested


def not_accepted(job: Job, event: Event) -> bool:
    """The runner did not take the assignment."""
    return job.live and isinstance(event, AttemptEnded) and event.cause is Cause.NOT_ACCEPTED


def released(job: Job, event: Event) -> bool:
    """The runner handed the attempt back."""
    return job.live and _outcome(event) is AttemptState.RELEASED


def user_error(job: Job, event: Event) -> bool:
    """Another attempt would fail in the same way."""
    return job.live and isinstance(event, AttemptEnded) and event.cause is Cause.USER_ERROR


def failures_used_up(job: Job, event: Event) -> bool:
    """The failure is the last that the job may have."""
    return job.live and _is_failure(event) and job.failure_count + 1 >= job.retry.max_attempts


def failures_left(job: Job, event: Event) -> bool:
    """The job may try again."""
    return job.live and _is_failure(event)


def _outcome(event: Event) -> AttemptState | None:
    return event.outcome if isinstance(event, AttemptEnded) else None


def _is_failure(event: Event) -> bool:
    # A runner that stops an attempt which nobody cancelled has failed it.
    return _outcome(event) in {AttemptState.FAILED, AttemptState.LOST, AttemptState.CANCELLED}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    source: JobState
    event: type[Event]
    guard: Guard
    target: JobState
    reason: str


NEW, PENDING, QUEUED, RUNNING = JobState.NEW, JobState.PENDING, JobState.QUEUED, JobState.RUNNING
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED

# fmt: off
TABLE: tuple[Row, ...] = (
    Row(NEW,     Created,             has_dependencies,     PENDING,   "CREATED"),
    Row(NEW,     Created,             always,               QUEUED,    "CREATED"),

    Row(PENDING, DependencySucceeded, waits_for_others,     PENDING,   "DEPENDENCY_SUCCEEDED"),
    Row(PENDING, DependencySucceeded, was_the_last,         QUEUED,    "DEPENDENCIES_SUCCEEDED"),
    Row(PENDING, DependencyFailed,    waits,                FAILED,    "DEPENDENCY_FAILED"),
    Row(PENDING, BackoffOver,         no_dependencies_left, QUEUED,    "BACKOFF_OVER"),
    Row(PENDING, CancelRequested,     always,               CANCELLED, "CANCEL_REQUESTED"),

    Row(QUEUED,  CancelRequested,     always,               CANCELLED, "CANCEL_REQUESTED"),
    Row(QUEUED,  QueueTimedOut,       unassigned,           FAILED,    "QUEUE_TIMEOUT"),
    Row(QUEUED,  Assigned,            unassigned,           QUEUED,    "ASSIGNED"),
    Row(QUEUED,  AssignmentAccepted,  offered,              QUEUED,    "ACCEPTED"),
    Row(QUEUED,  AttemptStarted,      preparing,            RUNNING,   "STARTED"),
    Row(QUEUED,  AttemptEnded,        not_accepted,         QUEUED,    "NOT_ACCEPTED"),
    Row(QUEUED,  AttemptEnded,        released,             QUEUED,    "RELEASED"),
    Row(QUEUED,  AttemptEnded,        user_error,           FAILED,    "USER_ERROR"),
    Row(QUEUED,  AttemptEnded,        failures_used_up,     FAILED,    "ATTEMPTS_EXHAUSTED"),
    Row(QUEUED,  AttemptEnded,        failures_left,        PENDING,   "RETRY_SCHEDULED"),

    Row(RUNNING, CancelRequested,     always,               RUNNING,   "CANCEL_REQUESTED"),
    Row(RUNNING, AttemptEnded,        succeeded,            SUCCEEDED, "SUCCEEDED"),
    Row(RUNNING, AttemptEnded,        cancelled,            CANCELLED, "CANCELLED"),
    Row(RUNNING, AttemptEnded,        released,             QUEUED,    "RELEASED"),
    Row(RUNNING, AttemptEnded,        user_error,           FAILED,    "USER_ERROR"),
    Row(RUNNING, AttemptEnded,        failures_used_up,     FAILED,    "ATTEMPTS_EXHAUSTED"),
    Row(RUNNING, AttemptEnded,        failures_left,        PENDING,   "RETRY_SCHEDULED"),
)
# fmt: on
