"""The scheduler's store as it promises to be, in memory: one history, streams that are numbered and fenced.

What happens to a job is decided by the real scheduler.core.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.core.machine import Step, step
from scheduler.core.model import (
    Assigned,
    AssignmentAccepted,
    AttemptEnded,
    AttemptStarted,
    AttemptState,
    BackoffOver,
    Cause,
    Created,
    Event,
    Job,
    JobState,
    RetryPolicy,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PATIENT = RetryPolicy(
    max_attempts=1000, initial_backoff=timedelta(seconds=1), max_backoff=timedelta(seconds=4)
)


class Superseded(Exception):
    """The attempt is not the live one."""


class Gap(Exception):
    """A number was skipped."""


class Outstanding(Exception):
    """The attempt ends before its results."""


@dataclass(frozen=True)
class Entry:
    """One line of a job's history."""

    attempt: int
    what: str
    """A stream's name, or a state."""
    number: int = 0
    message: Any = None


class Store:
    """Survives every crash."""

    def __init__(self, jobs: int) -> None:
        self.jobs: dict[str, Job] = {}
        self.histories: dict[str, list[Entry]] = {}
        self.streams: dict[tuple[str, int, str], list[Any]] = {}
        self.holders: dict[str, str] = {}
        self.leases: dict[str, float] = {}
        for index in range(jobs):
            name = f"jobs/{index}"
            self.jobs[name], self.histories[name] = Job(retry=PATIENT), []
            self.happen(name, Created(), 0)

    def happen(self, job: str, event: Event, now: float) -> Step:
        """Apply an event to a job. Raises IllegalEvent."""
        before = self.jobs[job]
        done = step(before, event, EPOCH + timedelta(seconds=now))
        self.jobs[job] = done.job
        if done.job.state is not before.state:
            self.histories[job].append(Entry(done.job.attempt, done.job.state.value))
        return done

    def claim(self, runner: str, now: float) -> tuple[str, int] | None:
        """Give the runner a queued job, if it has none and there is one."""
        if any(self.is_live(job, self.jobs[job].attempt, runner) for job in self.jobs):
            return None
        for job, state in self.jobs.items():
            if state.state is JobState.QUEUED and not state.live:
                self.happen(job, Assigned(runner), now)
                self.holders[job] = runner
                return job, self.jobs[job].attempt
        return None

    def is_live(self, job: str, attempt: int, runner: str) -> bool:
        """Whether this is the live attempt of the job, and this runner's."""
        known = self.jobs[job]
        return known.live and known.attempt == attempt and self.holders.get(job) == runner

    def accept(self, job: str, attempt: int, runner: str, now: float) -> None:
        """The runner took the assignment; an answer that is late or comes twice changes nothing."""
        if self.is_live(job, attempt, runner) and self.jobs[job].attempt_state is AttemptState.ASSIGNED:
            self.happen(job, AssignmentAccepted(), now)

    def lose(self, job: str, cause: Cause, now: float) -> None:
        """The live attempt is lost."""
        outcome = AttemptState.RELEASED if cause is Cause.NOT_ACCEPTED else AttemptState.LOST
        self.happen(job, AttemptEnded(outcome, cause), now)

    def sweep(self, now: float) -> None:
        """What happens because time passes."""
        for job, known in self.jobs.items():
            if known.live and self.leases.get(self.holders[job], 0) < now:
                self.lose(job, Cause.RUNNER_LOST, now)
            elif known.retry_time is not None and known.retry_time <= EPOCH + timedelta(seconds=now):
                self.happen(job, BackoffOver(), now)

    def committed(self, job: str, attempt: int, stream: str) -> int:
        """How far a stream has come. Raises Superseded."""
        self._fence(job, attempt)
        return len(self.streams.setdefault((job, attempt, stream), []))

    def take(self, job: str, attempt: int, stream: str, first: int, messages: list[Any], now: float) -> int:
        """Commit messages; how far the stream has come. Raises Superseded, Gap or Outstanding."""
        self._fence(job, attempt)
        stored = self.streams.setdefault((job, attempt, stream), [])
        if first > len(stored) + 1:
            raise Gap
        for message in messages[len(stored) + 1 - first :]:
            if stream == "progress":
                self._look(job, attempt, message, now)
            stored.append(message)
            self.histories[job].append(Entry(attempt, stream, len(stored), message))
            if stream == "progress" and message.HasField("attempt_ended"):
                self.happen(job, AttemptEnded(AttemptState.SUCCEEDED), now)
        return len(stored)

    def _fence(self, job: str, attempt: int) -> None:
        if not (self.jobs[job].live and self.jobs[job].attempt == attempt):
            raise Superseded

    def _look(self, job: str, attempt: int, message: Any, now: float) -> None:
        if message.HasField("attempt_started"):
            # A runner may start before its answer has come; its start is the better answer.
            self.accept(job, attempt, self.holders[job], now)
            self.happen(job, AttemptStarted(), now)
        ended = message.attempt_ended
        results = self.streams.get((job, attempt, "results"), [])
        if message.HasField("attempt_ended") and len(results) < ended.results_number:
            raise Outstanding
