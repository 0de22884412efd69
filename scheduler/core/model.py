"""The words of the state machine: facts about one job, events in, instructions out."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. NEW is before the first event and never stored."""

    NEW = "NEW"
    PENDING = "PENDING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class AttemptState(StrEnum):
    """Where an attempt is; the first four are live."""

    ASSIGNED = "ASSIGNED"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    RELEASED = "RELEASED"


LIVE = frozenset(
    {AttemptState.ASSIGNED, AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.CANCELLING}
)


class Cause(StrEnum):
    """Why an attempt ended otherwise than well."""

    UNSPECIFIED = "UNSPECIFIED"
    USER_ERROR = "USER_ERROR"
    FRAMEWORK_ERROR = "FRAMEWORK_ERROR"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PROCESS_DIED = "PROCESS_DIED"
    INFRASTRUCTURE = "INFRASTRUCTURE"
    RUNNER_LOST = "RUNNER_LOST"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    DRAINED = "DRAINED"
    PREEMPTED = "PREEMPTED"
    NOT_ACCEPTED = "NOT_ACCEPTED"


@dataclass(frozen=True)
class RetryPolicy:
    """How failed attempts are repeated."""

    max_attempts: int = 3
    initial_backoff: timedelta = timedelta(seconds=5)
    max_backoff: timedelta = timedelta(minutes=5)
    multiplier: float = 2.0


@dataclass(frozen=True)
class Job:
    """What the machine knows of one job: a function of its row."""

    state: JobState = JobState.NEW
    attempt: int = 0
    attempt_state: AttemptState | None = None
    """State of the newest attempt; None before the first assignment."""
    failure_count: int = 0
    cancel_requested: bool = False
    waiting_for: int = 0
    """Dependencies that have not SUCCEEDED yet."""
    retry_time: datetime | None = None
    """Earliest time of the next attempt while a backoff runs."""
    retry: RetryPolicy = RetryPolicy()

    @property
    def live(self) -> bool:
        """Whether the newest attempt has not ended."""
        return self.attempt_state in LIVE


@dataclass(frozen=True)
class Created:
    """The job was accepted; `waiting_for` dependencies have not succeeded yet."""

    waiting_for: int = 0


@dataclass(frozen=True)
class DependencySucceeded:
    """One of the jobs that this one waits for has SUCCEEDED."""


@dataclass(frozen=True)
class DependencyFailed:
    """One of the jobs that this one waits for has FAILED, or was cancelled or deleted."""

    job: str


@dataclass(frozen=True)
class BackoffOver:
    """The time of the next attempt has come."""


@dataclass(frozen=True)
class CancelRequested:
    """A user wants the job to stop."""

    grace_period: timedelta = timedelta(seconds=30)


@dataclass(frozen=True)
class QueueTimedOut:
    """The job has waited in QUEUED for longer than it may."""


@dataclass(frozen=True)
class Assigned:
    """A runner is about to be offered the job."""

    runner: str


@dataclass(frozen=True)
class AssignmentAccepted:
    """The runner took it."""


@dataclass(frozen=True)
class AttemptStarted:
    """The job process runs."""


@dataclass(frozen=True)
class AttemptEnded:
    """The attempt is over: reported by its runner, or found lost by the scheduler."""

    outcome: AttemptState
    cause: Cause = Cause.UNSPECIFIED


Event = (
    Created
    | DependencySucceeded
    | DependencyFailed
    | BackoffOver
    | CancelRequested
    | QueueTimedOut
    | Assigned
    | AssignmentAccepted
    | AttemptStarted
    | AttemptEnded
)


@dataclass(frozen=True)
class ChangeState:
    """Store the transition and tell watchers."""

    source: JobState
    target: JobState
    reason: str
    retry_time: datetime | None = None


@dataclass(frozen=True)
class BeginAttempt:
    """Store a new attempt, ASSIGNED to `runner`."""

    number: int
    runner: str


@dataclass(frozen=True)
class EndAttempt:
    """Store the end of an attempt."""

    number: int
    outcome: AttemptState
    cause: Cause


@dataclass(frozen=True)
class StopAttempt:
    """Have the runner stop an attempt; it is killed after `grace_period`."""

    number: int
    grace_period: timedelta
    cause: Cause


@dataclass(frozen=True)
class TellDependents:
    """The job has ended: jobs that depend on it may go on, or cannot."""

    succeeded: bool


Instruction = ChangeState | BeginAttempt | EndAttempt | StopAttempt | TellDependents
