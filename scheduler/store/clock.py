"""A clock that is never put back.

Leases, backoffs and times in the queue are moments in the database, and who watches all jobs goes on
after the newest change. Were the clock put back by an hour, backoffs would last an hour longer, and
changes would hide behind newer ones. So it goes on steadily instead, until the machine's has caught up.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Unlike Linux's CLOCK_MONOTONIC it goes on while the machine sleeps."""


def _wall() -> datetime:
    return datetime.now(UTC)


def _steady() -> float:
    return time.clock_gettime(_SINCE_BOOT)


class ForwardClock:
    """The machine's clock; where that is put back, the time that has really passed."""

    def __init__(self, wall: Callable[[], datetime] = _wall, steady: Callable[[], float] = _steady) -> None:
        """`steady` counts seconds, whatever becomes of `wall`."""
        self._wall, self._steady = wall, steady
        self._last, self._last_steady = wall(), steady()

    def start_after(self, moment: datetime) -> None:
        """Be later than `moment`, which an earlier process has noted."""
        self._last = max(self._last, moment)

    def now(self) -> datetime:
        """The time; never before one that was given earlier."""
        steady = self._steady()
        passed = timedelta(seconds=steady - self._last_steady)
        self._last, self._last_steady = max(self._wall(), self._last + passed), steady
        return self._last
