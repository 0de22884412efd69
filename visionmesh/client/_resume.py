"""Calls that are made again, and streams that go on where they were cut: when. The caller has the clock."""

import random
from typing import Generic

import grpc

from visionmesh.client._calls import Item, Position, Request, Response, Stream, Unary
from visionmesh.client._channel import is_repeatable
from visionmesh.client._errors import is_interruption
from visionmesh.errors import MeshError, Reason, TimedOut

_FIRST_DELAY = 0.1
_RESTART_SECONDS, _LONGEST_IN_A_RESTART = 15.0, 1.0
_LONGEST_DELAY = 5.0


class Backoff:
    """Waits between tries: doubling, with full jitter, until `patience` seconds brought nothing.

    As long as the mesh may only be starting again, waits stay short, so that they add little to the
    outage; the jitter still spreads a crowd over a second.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._delay = _FIRST_DELAY
        self._since: float | None = None

    def reset(self) -> None:
        """Something arrived: begin again with short waits."""
        self._delay, self._since = _FIRST_DELAY, None

    def delay(self, error: MeshError, now: float) -> float:
        """Seconds to wait before the next try; raises `error` when patience is over."""
        self._since = now if self._since is None else self._since
        delay = random.uniform(0, self._delay)  # noqa: S311 - jitter, no secret
        if error.retry_delay is not None:
            delay += error.retry_delay.total_seconds()
        if now + delay > self._since + self._patience:
            raise error
        may_restart = now < self._since + _RESTART_SECONDS
        self._delay = min(self._delay * 2, _LONGEST_IN_A_RESTART if may_restart else _LONGEST_DELAY)
        return delay


class Repetition:
    """A single call on its way, made again while a mesh that was there is away for a moment.

    gRPC repeats by itself for less than a second (see `service_config`); a restart takes longer.
    """

    def __init__(self, call: Unary[Request, Response], timeout: float, now: float) -> None:
        self._is_repeatable = is_repeatable(call.request)
        self._until = now + timeout
        self._backoff = Backoff(timeout)

    def timeout(self, now: float) -> float:
        """Seconds that are left for it."""
        return max(0.0, self._until - now)

    def failed(self, error: MeshError, reached: bool, now: float) -> float:
        """Seconds to wait before it is made again.

        Raises `error` if it may not be repeated, if its time is over, and if the mesh was never `reached`.
        """
        if not (reached and self._is_repeatable and is_interruption(error)):
            raise error
        delay = self._backoff.delay(error, now)
        if now + delay >= self._until:
            raise error
        return delay


class Resumption(Generic[Position, Request, Response, Item]):
    """A stream on its way: what to ask when it is opened (again), and what of the answers is new.

    `until`, on the clock of `now`, ends it with TimedOut; the stream itself has no deadline.
    """

    def __init__(
        self, stream: Stream[Position, Request, Response, Item], patience: float, until: float | None = None
    ) -> None:
        self._stream = stream
        self._position = stream.start
        self._backoff = Backoff(patience)
        self._until = until

    def request(self) -> Request:
        """Asks for what has not come yet."""
        return self._stream.request(self._position)

    def timeout(self, now: float) -> float | None:
        """Seconds that are left for it."""
        return None if self._until is None else max(0.0, self._until - now)

    def received(self, response: Response) -> Item | None:
        """What is new in a message."""
        self._backoff.reset()
        self._position, item = self._stream.take(self._position, response)
        return item

    def cut(self, error: MeshError, reached: bool, now: float) -> float:
        """Seconds to wait before it is opened again.

        Raises `error` if another try would not mend it, if patience is over, and if the mesh was
        never `reached`: an interruption is not the same as nobody there.
        """
        left = self.timeout(now)
        if left == 0:
            raise _time_is_up() from error
        # The stream has no deadline of ours: a proxy ended it.
        timed_out = isinstance(error, TimedOut) and not error.from_mesh
        if not reached or not (timed_out or is_interruption(error)):
            raise error
        delay = self._backoff.delay(error, now)
        return delay if left is None else min(delay, left)


def _time_is_up() -> MeshError:
    message = "The time that the caller gave is over. Give it more, or ask again."
    return MeshError(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, message, from_mesh=False)
