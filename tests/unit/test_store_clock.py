"""The clock of a scheduler on SQLite: right while the machine's is, and never put back."""

from datetime import UTC, datetime, timedelta

import pytest

from scheduler.store.clock import ForwardClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine:
    """Its wall clock may be put forward and back; its steady one counts what really passes."""

    def __init__(self) -> None:
        self.wall, self.steady = NOON, 1000.0

    def wait(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> ForwardClock:
    return ForwardClock(lambda: machine.wall, lambda: machine.steady)


def test_it_is_the_machines(machine: Machine, clock: ForwardClock) -> None:
    machine.wait(5)
    assert clock.now() == NOON + timedelta(seconds=5)


def test_it_is_put_forward_with_it(machine: Machine, clock: ForwardClock) -> None:
    machine.wall += HOUR
    assert clock.now() == NOON + HOUR


def test_it_goes_on_steadily_when_that_is_put_back(machine: Machine, clock: ForwardClock) -> None:
    machine.wait(5)
    assert clock.now() == NOON + timedelta(seconds=5)
    machine.wall -= HOUR
    assert clock.now() == NOON + timedelta(seconds=5)
    machine.wait(2)
    assert clock.now() == NOON + timedelta(seconds=7)
    machine.wait(3)
    assert clock.now() == NOON + timedelta(seconds=10)


def test_it_follows_again_when_that_has_caught_up(machine: Machine, clock: ForwardClock) -> None:
    machine.wall -= HOUR
    machine.wait(60)
    machine.wall += HOUR + timedelta(seconds=1)
    assert clock.now() == NOON + timedelta(seconds=61)


def test_it_is_not_before_what_an_earlier_process_has_noted(machine: Machine, clock: ForwardClock) -> None:
    clock.start_after(NOON + HOUR)
    clock.start_after(NOON - HOUR)
    machine.wait(1)
    assert clock.now() == NOON + HOUR + timedelta(seconds=1)
