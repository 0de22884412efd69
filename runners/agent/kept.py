"""Where an outbox keeps its messages: in memory, or on disk with a window in memory."""

from typing import Generic, Protocol, TypeVar

import structlog
from google.protobuf.message import Message

from runners.agent.journal import Journal, Place

WINDOW_BYTES = 1024 * 1024
"""Newest messages that stay in memory although they are on disk: most are sent at once."""

M = TypeVar("M", bound=Message)

log = structlog.get_logger(__name__)


class Kept(Protocol[M]):
    """Messages by number."""

    is_full: bool
    """Whether it cannot take more as it should; what it is given it takes nevertheless."""

    def put(self, number: int, message: M) -> None:
        """Keep a message, in the place of an earlier one if there is one of that number."""

    def get(self, number: int) -> M:
        """A message. Raises OSError if it cannot be read back."""

    def drop(self, number: int) -> None:
        """Forget a message; those before it are forgotten already."""

    def relieve(self, everything: bool) -> None:
        """Try to take more again; `everything` says that nothing of what is kept is needed any more."""


class InMemory(Generic[M]):
    """A dictionary."""

    def __init__(self) -> None:
        self.is_full = False
        self._messages: dict[int, M] = {}

    def put(self, number: int, message: M) -> None:
        """As Kept."""
        self._messages[number] = message

    def get(self, number: int) -> M:
        """As Kept."""
        return self._messages[number]

    def drop(self, number: int) -> None:
        """As Kept."""
        del self._messages[number]

    def relieve(self, everything: bool) -> None:
        """As Kept: it never is full."""


class OnDisk(Generic[M]):
    """A journal, and what has just been written to it.

    What a full disk did not take waits in memory, in its order, for the disk to have room: an outbox that
    is full makes the job process wait, so this is a message or two.
    """

    def __init__(self, journal: Journal, kind: type[M], window_bytes: int = WINDOW_BYTES) -> None:
        self._journal, self._kind, self._window_limit = journal, kind, window_bytes
        self._places: dict[int, Place] = {}
        self._window: dict[int, tuple[M, int]] = {}
        self._window_bytes = 0
        self._unwritten: dict[int, M] = {}
        self.is_full = False

    def recover(self) -> dict[int, int]:
        """Take over what an agent before this one has written; sizes in bytes by number."""
        for record in self._journal.recover():
            self._places[record.number] = record.place
        return {number: place.size for number, place in self._places.items()}

    def put(self, number: int, message: M) -> None:
        """As Kept."""
        self._forget_in_memory(number)
        self._unwritten.pop(number, None)
        self._unwritten[number] = message
        self._write()

    def get(self, number: int) -> M:
        """As Kept."""
        if number in self._unwritten:
            return self._unwritten[number]
        if number in self._window:
            return self._window[number][0]
        return self._kind.FromString(self._journal.read(self._places[number]))

    def drop(self, number: int) -> None:
        """As Kept."""
        self._forget_in_memory(number)
        self._places.pop(number, None)
        if number not in self._unwritten:  # else it is still to be written: numbers on disk have no gap
            self._journal.forget_before(number + 1)

    def relieve(self, everything: bool) -> None:
        """As Kept."""
        if everything:
            self._journal.clear()
            for kept in (self._places, self._window, self._unwritten):
                kept.clear()
            self._window_bytes = 0
        self._write()

    def _write(self) -> None:
        try:
            for number, message in list(self._unwritten.items()):
                self._places[number] = self._journal.append(number, message.SerializeToString())
                del self._unwritten[number]
                self._remember(number, message, self._places[number].size)
            self.is_full = False
        except OSError as error:
            if not self.is_full:
                log.warning("journal cannot be written; the job process waits", why=str(error))
            self.is_full = True

    def _remember(self, number: int, message: M, size: int) -> None:
        self._window[number] = (message, size)
        self._window_bytes += size
        while self._window_bytes > self._window_limit:
            self._forget_in_memory(next(iter(self._window)))

    def _forget_in_memory(self, number: int) -> None:
        _, size = self._window.pop(number, (None, 0))
        self._window_bytes -= size
