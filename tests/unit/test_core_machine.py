"""The life of a job: one table, tried with examples and with random histories."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scheduler.core.diagram import mermaid
from scheduler.core.machine import JITTER, IllegalEvent, Step, backoff, step
from scheduler.core.model import (
    LIVE,
    TERMINAL,
    Assigned,
    AssignmentAccepted,
    AttemptEnded,
    AttemptStarted,
    AttemptState,
    BackoffOver,
    BeginAttempt,
    CancelRequested,
    Cause,
    ChangeState,
    Created,
    DependencyFailed,
    DependencySucceeded,
    EndAttempt,
    Event,
    Job,
    JobState,
    QueueTimedOut,
    RetryPolicy,
    StopAttempt,
    TellDependents,
)
from scheduler.core.table import TABLE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Job(JobState.QUEUED)
ASSIGNED = Job(JobState.QUEUED, attempt=1, attempt_state=AttemptState.ASSIGNED)
PREPARING = Job(JobState.QUEUED, attempt=1, attempt_state=AttemptState.PREPARING)
RUNNING = Job(JobState.RUNNING, attempt=1, attempt_state=AttemptState.RUNNING)
CANCELLING = Job(JobState.RUNNING, attempt=1, attempt_state=AttemptState.CANCELLING, cancel_requested=True)
PENDING = Job(JobState.PENDING, waiting_for=1)
FAILED = AttemptEnded(AttemptState.FAILED, Cause.FRAMEWORK_ERROR)
LOST = AttemptEnded(AttemptState.LOST, Cause.RUNNER_LOST)

TRANSITIONS = [
    (Job(), Created(0), JobState.QUEUED),
    (Job(), Created(2), JobState.PENDING),
    (PENDING, DependencySucceeded(), JobState.QUEUED),
    (Job(JobState.PENDING, waiting_for=2), DependencySucceeded(), JobState.PENDING),
    (PENDING, DependencyFailed("jobs/x"), JobState.FAILED),
    (Job(JobState.PENDING, retry_time=NOW), BackoffOver(), JobState.QUEUED),
    (PENDING, CancelRequested(), JobState.CANCELLED),
    (QUEUED, CancelRequested(), JobState.CANCELLED),
    (PREPARING, CancelRequested(), JobState.CANCELLED),
    (QUEUED, QueueTimedOut(), JobState.FAILED),
    (QUEUED, Assigned("r"), JobState.QUEUED),
    (ASSIGNED, AssignmentAccepted(), JobState.QUEUED),
    (PREPARING, AttemptStarted(), JobState.RUNNING),
    (ASSIGNED, AttemptEnded(AttemptState.LOST, Cause.NOT_ACCEPTED), JobState.QUEUED),
    (PREPARING, FAILED, JobState.PENDING),
    (PREPARING, AttemptEnded(AttemptState.FAILED, Cause.USER_ERROR), JobState.FAILED),
    (RUNNING, AttemptEnded(AttemptState.SUCCEEDED), JobState.SUCCEEDED),
    (RUNNING, FAILED, JobState.PENDING),
    (RUNNING, LOST, JobState.PENDING),
    (RUNNING, AttemptEnded(AttemptState.FAILED, Cause.USER_ERROR), JobState.FAILED),
    (RUNNING, AttemptEnded(AttemptState.RELEASED, Cause.DRAINED), JobState.QUEUED),
    (RUNNING, CancelRequested(), JobState.RUNNING),
    (CANCELLING, AttemptEnded(AttemptState.CANCELLED, Cause.CANCELLED), JobState.CANCELLED),
    (CANCELLING, LOST, JobState.CANCELLED),
    (CANCELLING, FAILED, JobState.CANCELLED),
    (CANCELLING, AttemptEnded(AttemptState.RELEASED, Cause.DRAINED), JobState.CANCELLED),
    (CANCELLING, AttemptEnded(AttemptState.SUCCEEDED), JobState.SUCCEEDED),
]

EVENTS: list[Event] = [
    Created(),
    DependencySucceeded(),
    DependencyFailed("jobs/x"),
    BackoffOver(),
    CancelRequested(),
    QueueTimedOut(),
    Assigned("r"),
    AssignmentAccepted(),
    AttemptStarted(),
    AttemptEnded(AttemptState.SUCCEEDED),
    FAILED,
    LOST,
]


@pytest.mark.parametrize(("job", "event", "target"), TRANSITIONS)
def test_each_transition_of_the_design_leads_where_it_says(job: Job, event: Event, target: JobState) -> None:
    assert step(job, event, NOW).job.state is target


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_terminal_is_final(state: JobState, event: Event) -> None:
    with pytest.raises(IllegalEvent):
        step(Job(state, attempt=1, attempt_state=AttemptState.SUCCEEDED), event, NOW)


def test_the_last_failure_ends_the_job_and_tells_its_dependents() -> None:
    last = Job(JobState.RUNNING, 3, AttemptState.RUNNING, failure_count=2)
    assert step(last, FAILED, NOW).instructions == (
        EndAttempt(3, AttemptState.FAILED, Cause.FRAMEWORK_ERROR),
        ChangeState(JobState.RUNNING, JobState.FAILED, "ATTEMPTS_EXHAUSTED"),
        TellDependents(succeeded=False),
    )


def test_a_failure_with_tries_left_is_followed_by_a_pause() -> None:
    after = step(RUNNING, FAILED, NOW, jitter=0.5)
    assert after.job.failure_count == 1
    assert after.job.retry_time == NOW + timedelta(seconds=5)
    assert after.instructions[-1] == ChangeState(
        JobState.RUNNING, JobState.PENDING, "RETRY_SCHEDULED", after.job.retry_time
    )


@pytest.mark.parametrize(
    "event",
    [
        AttemptEnded(AttemptState.RELEASED, Cause.DRAINED),
        AttemptEnded(AttemptState.RELEASED, Cause.PREEMPTED),
    ],
)
def test_an_attempt_that_was_handed_back_is_not_counted(event: Event) -> None:
    assert step(RUNNING, event, NOW).job.failure_count == 0


def test_an_assignment_that_was_never_accepted_is_not_counted() -> None:
    back = step(ASSIGNED, AttemptEnded(AttemptState.LOST, Cause.NOT_ACCEPTED), NOW).job
    assert (back.state, back.failure_count, back.live) == (JobState.QUEUED, 0, False)


def test_cancel_of_a_running_job_is_graceful_and_asked_once() -> None:
    first = step(RUNNING, CancelRequested(timedelta(seconds=7)), NOW)
    assert first.instructions == (StopAttempt(1, timedelta(seconds=7), Cause.CANCELLED),)
    assert step(first.job, CancelRequested(timedelta(seconds=1)), NOW).instructions == ()


def test_cancel_of_a_job_in_preparation_kills_at_once() -> None:
    after = step(PREPARING, CancelRequested(timedelta(seconds=7)), NOW)
    assert after.job.attempt_state is AttemptState.CANCELLED
    assert StopAttempt(1, timedelta(0), Cause.CANCELLED) in after.instructions


def test_an_illegal_event_says_what_was_tried() -> None:
    with pytest.raises(IllegalEvent, match="AttemptStarted cannot happen to a job that is QUEUED"):
        step(QUEUED, AttemptStarted(), NOW)


@given(
    st.integers(1, 100),
    st.floats(0, 1),
    st.floats(0, 3600),
    st.floats(0, 86400),
    st.floats(1, 10),
)
def test_backoff_stays_within_its_cap_and_jitter(
    failures: int, jitter: float, initial: float, cap: float, multiplier: float
) -> None:
    policy = RetryPolicy(3, timedelta(seconds=initial), timedelta(seconds=cap), multiplier)
    wait = backoff(failures, policy, jitter).total_seconds()
    assert 0 <= wait <= cap * (1 + JITTER) + 1e-6


def test_every_row_of_the_table_can_be_reached() -> None:
    """Each row is the first that fits for some transition of the list above."""
    reasons = {(job.state, type(event), step(job, event, NOW).reason) for job, event, _target in TRANSITIONS}
    reasons |= {
        (JobState.QUEUED, AttemptEnded, "RELEASED"),
        (JobState.QUEUED, AttemptEnded, "ATTEMPTS_EXHAUSTED"),
        (JobState.RUNNING, AttemptEnded, "ATTEMPTS_EXHAUSTED"),
    }
    assert step(PREPARING, AttemptEnded(AttemptState.RELEASED, Cause.DRAINED), NOW).reason == "RELEASED"
    for state, attempt in (
        (JobState.QUEUED, AttemptState.PREPARING),
        (JobState.RUNNING, AttemptState.RUNNING),
    ):
        assert step(Job(state, 3, attempt, failure_count=2), FAILED, NOW).reason == "ATTEMPTS_EXHAUSTED"
    assert {(row.source, row.event, row.reason) for row in TABLE} == reasons


def test_the_diagram_has_an_arrow_for_each_row() -> None:
    assert mermaid().count("-->") == len(TABLE) + len(TERMINAL)


class JobLife(RuleBasedStateMachine):
    """Random events, duplicates and late ones included, against what must always hold."""

    @initialize(dependencies=st.integers(0, 3), attempts=st.integers(1, 4))
    def create(self, dependencies: int, attempts: int) -> None:
        retry = RetryPolicy(max_attempts=attempts)
        self.now = NOW
        self.told = 0
        self.began: list[int] = []
        self.ended: list[int] = []
        self.succeeded = False
        self.took: list[JobState] = []
        self.job = self._take(step(Job(retry=retry), Created(dependencies), self.now))

    def _take(self, taken: Step) -> Job:
        for instruction in taken.instructions:
            match instruction:
                case BeginAttempt():
                    self.began.append(instruction.number)
                case EndAttempt():
                    self.ended.append(instruction.number)
                case TellDependents():
                    self.told += 1
                    self.succeeded = instruction.succeeded
                case ChangeState():
                    self.took.append(instruction.target)
        return taken.job

    @rule(event=st.sampled_from(EVENTS), jitter=st.floats(0, 1), seconds=st.integers(0, 100))
    def happen(self, event: Event, jitter: float, seconds: int) -> None:
        """Any event at any time: it is taken, or refused without a trace."""
        self.now += timedelta(seconds=seconds)
        before = self.job
        try:
            self.job = self._take(step(before, event, self.now, jitter))
        except IllegalEvent:
            assert self.job == before

    @precondition(lambda self: self.job.state is JobState.QUEUED and not self.job.live)
    @rule()
    def run(self) -> None:
        """Drive a queued job into RUNNING, so that deep states are visited often."""
        for event in (Assigned("r"), AssignmentAccepted(), AttemptStarted()):
            self.job = self._take(step(self.job, event, self.now))

    @invariant()
    def attempts_begin_in_order_and_end_once(self) -> None:
        assert self.began == list(range(1, len(self.began) + 1))
        assert self.job.attempt == len(self.began)
        assert len(self.ended) == len(set(self.ended))
        assert set(self.ended) <= set(self.began)
        assert set(self.began) - set(self.ended) == ({self.job.attempt} if self.job.live else set())

    @invariant()
    def dependents_are_told_once_and_only_at_the_end(self) -> None:
        assert self.told == (self.job.state in TERMINAL)
        assert sum(state in TERMINAL for state in self.took) == self.told
        assert self.succeeded == (self.job.state is JobState.SUCCEEDED)

    @invariant()
    def states_and_attempts_agree(self) -> None:
        if self.job.state is JobState.RUNNING:
            assert self.job.attempt_state in {AttemptState.RUNNING, AttemptState.CANCELLING}
        if self.job.state is JobState.PENDING or self.job.state in TERMINAL:
            assert self.job.attempt_state not in LIVE
        assert self.job.failure_count <= self.job.retry.max_attempts
        assert self.job.waiting_for >= 0
        if self.job.state is JobState.PENDING:
            assert self.job.waiting_for > 0 or self.job.retry_time is not None


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
