"""What one stream of one attempt still has to deliver.

Messages are numbered from 1. What the scheduler has acknowledged is kept for a while, within
`history_bytes`: after a failover to a lagging database it may state a lower number than before,
and the runner goes back. Nothing here waits; where the messages are kept is decided by `kept`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from runners.agent.kept import InMemory, Kept

BATCH_MESSAGES = 200
"""Most messages in one request."""

BATCH_BYTES = 256 * 1024
"""Most bytes in one request, unless one message alone is larger."""

HISTORY_BYTES = 16 * 1024 * 1024
"""Acknowledged messages that are kept in case the scheduler goes back."""

M = TypeVar("M", bound=Message)


class OutOfStep(Exception):
    """The scheduler states a number from which this stream cannot go on."""


@dataclass(frozen=True)
class Batch(Generic[M]):
    """Consecutive messages to send."""

    first_number: int
    messages: Sequence[M]


class Outbox(Generic[M]):
    """Numbers messages, hands them out in batches, and keeps them until they are acknowledged."""

    def __init__(
        self,
        batch_messages: int = BATCH_MESSAGES,
        batch_bytes: int = BATCH_BYTES,
        history_bytes: int = HISTORY_BYTES,
        kept: Kept[M] | None = None,
    ) -> None:
        self._batch_messages, self._batch_bytes = batch_messages, batch_bytes
        self._history_limit = history_bytes
        self._kept: Kept[M] = kept if kept is not None else InMemory()
        self._sizes: dict[int, int] = {}
        self._oldest = 1
        self._history_bytes = 0
        self._next_to_send = 1
        self._singly_until = 0
        self.last_number = 0
        """Number of the newest message; 0 before the first."""
        self.acknowledged = 0
        """Everything up to here is on the scheduler's disk."""
        self.waiting_bytes = 0
        """Bytes of the messages that are not acknowledged."""

    def take_over(self, sizes: Mapping[int, int]) -> None:
        """Begin with messages that are kept already, none of them known to be acknowledged.

        `sizes` is in bytes, by number, without a gap.
        """
        if sizes:
            self._sizes.update(sizes)
            self._oldest, self.last_number = min(sizes), max(sizes)
            self.acknowledged = self._oldest - 1
            self._next_to_send = self._oldest
            self.waiting_bytes = sum(sizes.values())

    @property
    def waiting_messages(self) -> int:
        """How many messages are not acknowledged."""
        return self.last_number - self.acknowledged

    @property
    def is_full(self) -> bool:
        """Whether there is no room where the messages are kept."""
        return self._kept.is_full

    def relieve(self) -> None:
        """Try again to find room; history gives way to it."""
        everything = self.is_delivered
        self._kept.relieve(everything)
        if everything:
            self._sizes.clear()
            self._oldest, self._history_bytes = self.last_number + 1, 0

    @property
    def is_delivered(self) -> bool:
        """Whether nothing is left to be acknowledged."""
        return self.acknowledged == self.last_number

    def append(self, message: M) -> int:
        """Take a message; returns its number."""
        size = message.ByteSize()
        self.last_number += 1
        self._sizes[self.last_number] = size
        self._kept.put(self.last_number, message)
        self.waiting_bytes += size
        return self.last_number

    def next_batch(self) -> Batch[M] | None:
        """What to send next, as much as one request may carry; None if everything is sent."""
        if self.is_careful:
            return self._next_alone()
        first, total = self._next_to_send, 0
        messages: list[M] = []
        while self._next_to_send <= self.last_number and len(messages) < self._batch_messages:
            size = self._sizes[self._next_to_send]
            if messages and total + size > self._batch_bytes:
                break
            messages.append(self._kept.get(self._next_to_send))
            total += size
            self._next_to_send += 1
        return Batch(first, messages) if messages else None

    @property
    def is_careful(self) -> bool:
        """Whether messages are sent one by one, each when the one before is acknowledged."""
        return self.acknowledged < self._singly_until

    def be_careful(self) -> None:
        """Send everything that was sent and not acknowledged one by one, to see which is refused."""
        self._singly_until = self._next_to_send - 1

    def replace_first(self, smaller: Callable[[M], M]) -> None:
        """Put something smaller in the place of the first message that is not acknowledged."""
        number = self.acknowledged + 1
        changed = smaller(self._kept.get(number))
        self._kept.put(number, changed)
        self.waiting_bytes += changed.ByteSize() - self._sizes[number]
        self._sizes[number] = changed.ByteSize()

    def _next_alone(self) -> Batch[M] | None:
        number = self.acknowledged + 1
        if self._next_to_send > number:
            return None
        self._next_to_send = number + 1
        return Batch(number, [self._kept.get(number)])

    def acknowledge(self, number: int) -> bool:
        """Everything up to `number` is stored; returns whether that is news. Raises OutOfStep."""
        if number >= self._next_to_send:
            raise OutOfStep(f"{number} was acknowledged, but only {self._next_to_send - 1} was sent")
        if number <= self.acknowledged:
            return False
        for passed in range(self.acknowledged + 1, number + 1):
            self._move_to_history(self._sizes[passed])
        self.acknowledged = number
        self._forget()
        return True

    def resume(self, committed: int) -> None:
        """A new stream begins: send everything after `committed`, even if that means going back.

        Raises OutOfStep if that cannot be done.
        """
        if committed > self.last_number:
            raise OutOfStep(f"the scheduler has message {committed}, but only {self.last_number} were made")
        if committed < self._oldest - 1:
            raise OutOfStep(f"the scheduler went back to {committed}; kept is only from {self._oldest} on")
        for returned in range(committed + 1, self.acknowledged + 1):
            self._move_to_history(-self._sizes[returned])
        for passed in range(self.acknowledged + 1, committed + 1):
            self._move_to_history(self._sizes[passed])
        self.acknowledged = committed
        self._next_to_send = committed + 1
        self._forget()

    def _move_to_history(self, size: int) -> None:
        self._history_bytes += size
        self.waiting_bytes -= size

    def _forget(self) -> None:
        while self._history_bytes > self._history_limit and self._oldest <= self.acknowledged:
            self._history_bytes -= self._sizes.pop(self._oldest)
            self._kept.drop(self._oldest)
            self._oldest += 1
