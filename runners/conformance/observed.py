"""What a runner has been seen to do: its numbered streams, attempt by attempt, and what it broke."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message

from visionmesh import limits
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import progress_pb2, runner_pb2

MAX_MESSAGES = 1000
_SCHEDULERS_OWN = ("rejected", "state_changed")


class Failed(Exception):
    """A rule is broken, or what a case waits for does not come."""

    def __init__(self, rule: str, seen: str) -> None:
        super().__init__(f"{rule}: {seen}")
        self.rule, self.seen = rule, seen


@dataclass
class Play:
    """How the scheduler behaves on one opening of a stream; by default as it should."""

    refusal: MeshError | None = None
    """The opening is refused."""

    lost: int = 0
    """So many of the newest stored messages are gone before it opens."""

    overstated: int = 0
    """The first response states so many more than were ever sent."""

    cut_at: int = 0
    """The stream is cut when this number is stored, and not acknowledged."""

    refuse_at: tuple[int, MeshError] | None = None
    """The stream is refused when this number comes."""

    silent: bool = False
    """Nothing is stored or acknowledged."""

    repeats: bool = False
    """Each acknowledgement comes three times, with an old one in between."""

    single: bool = False
    """A request with more than one message is too large."""

    too_large: int = 0
    """The message of this number is too large, as it was first sent."""

    outstanding: int = 0
    """When attempt_ended comes, so many of the newest results turn out to be gone."""


class Side:
    """One numbered stream of one attempt."""

    def __init__(self, name: str, attempt: "Attempt") -> None:
        self.name, self._attempt = name, attempt
        self.stored: list[Message] = []
        self.acknowledged = 0
        """Highest number that the runner was told is stored, less what was lost since."""
        self.plays: deque[Play] = deque()
        self.openings: list[float] = []
        self.received = 0
        """Requests with messages, of all openings."""
        self.unacknowledged_bytes = 0
        """Bytes received on this opening and not acknowledged."""
        self.size_refusals = 0
        self._contents: dict[int, bytes] = {}
        self._may_change: set[int] = set()
        self._next = 1

    @property
    def highest(self) -> int:
        """Highest number that was ever received."""
        return max(self._contents, default=0)

    def begin(self) -> Play:
        """The stream is opened; how to behave."""
        self.openings.append(time.monotonic())
        play = self.plays.popleft() if self.plays else Play()
        if play.lost:
            self.lose(play.lost)
        self.acknowledged = len(self.stored)
        self.unacknowledged_bytes = 0
        self._next = self.stated(play) + 1
        return play

    def stated(self, play: Play) -> int:
        """What the first response says."""
        return len(self.stored) + (self.highest + play.overstated if play.overstated else 0)

    def lose(self, count: int) -> None:
        """The newest messages are gone, as after a failover to a database that lags."""
        del self.stored[max(0, len(self.stored) - count) :]
        self.acknowledged = len(self.stored)

    def take(self, play: Play, first: int, messages: Sequence[Message]) -> None:
        """Store messages as `play` has it. Raises MeshError for the runner, Failed for a broken rule."""
        self.received += 1
        self._check(first, messages)
        self._refuse_size(play, first, messages)
        for number, message in enumerate(messages, first):
            self._look(number, message)
        self._next = first + len(messages)
        self.unacknowledged_bytes += sum(message.ByteSize() for message in messages)
        if play.refuse_at is not None and self._next > play.refuse_at[0]:
            raise play.refuse_at[1]
        if play.silent:
            return
        room = play.cut_at - first + 1 if play.cut_at else len(messages)
        self.stored += messages[:room]
        if play.cut_at and self._next > play.cut_at:
            raise cut()

    def _check(self, first: int, messages: Sequence[Message]) -> None:
        if first != self._next:
            raise Failed("R6", f"{self.name}: number {first} came where {self._next} was due")
        if len(messages) > MAX_MESSAGES:
            raise Failed(
                "R15", f"{self.name}: {len(messages)} messages in one request; {MAX_MESSAGES} may be"
            )
        size = sum(message.ByteSize() for message in messages)
        if size > limits.MAX_REQUEST_BYTES:
            raise Failed("R15", f"{self.name}: a request of {size} bytes; {limits.MAX_REQUEST_BYTES} may be")

    def _refuse_size(self, play: Play, first: int, messages: Sequence[Message]) -> None:
        at = play.too_large - first
        unchanged = 0 <= at < len(messages) and self._is_as_before(play.too_large, messages[at])
        if unchanged or (play.single and len(messages) > 1):
            self.size_refusals += 1
            self._may_change.add(play.too_large)
            raise too_large()

    def _is_as_before(self, number: int, message: Message) -> bool:
        data = message.SerializeToString(deterministic=True)
        return self._contents.setdefault(number, data) == data

    def _look(self, number: int, message: Message) -> None:
        data = message.SerializeToString(deterministic=True)
        if number in self._may_change:
            self._may_change.discard(number)
            self._contents[number] = data
        if self._contents.setdefault(number, data) != data:
            raise Failed("R7", f"{self.name}: number {number} came again with another content")
        if isinstance(message, progress_pb2.ProgressUpdate):
            self._attempt.look(number, message)


class Attempt:
    """One attempt that was assigned."""

    def __init__(self, assignment: runner_pb2.Assignment) -> None:
        self.assignment = assignment
        self.job, self.number = assignment.job.name, assignment.attempt
        self.progress, self.results = Side("progress", self), Side("results", self)
        self.replies: list[runner_pb2.AssignmentReply] = []
        self.is_forgotten = False
        """The scheduler has given it to somebody else."""
        self.is_unwanted = False
        """The control stream says so already, the data streams do not yet."""
        self.end_refusals = 0
        """How often attempt_ended was refused because results are outstanding."""
        self.touched_after = 0
        """How often a stream of a forgotten attempt was opened."""
        self.fetches = 0

    @property
    def ref(self) -> runner_pb2.AttemptRef:
        """By name."""
        return runner_pb2.AttemptRef(job=self.job, attempt=self.number)

    def updates(self, kind: str) -> list[progress_pb2.ProgressUpdate]:
        """Stored updates of one kind."""
        found = [m for m in self.progress.stored if isinstance(m, progress_pb2.ProgressUpdate)]
        return [update for update in found if update.HasField(kind)]  # type: ignore[arg-type]

    @property
    def end(self) -> progress_pb2.AttemptEnded | None:
        """How it ended, once that is stored."""
        ended = self.updates("attempt_ended")
        return ended[0].attempt_ended if ended else None

    @property
    def pid(self) -> int:
        """Process id of the job process; 0 if it was not told."""
        return next((u.attempt_started.pid for u in self.updates("attempt_started")), 0)

    def look(self, number: int, update: progress_pb2.ProgressUpdate) -> None:
        """Check an update that has come. Raises Failed."""
        kind = update.WhichOneof("update")
        if kind is None or kind in _SCHEDULERS_OWN:
            raise Failed("R6", f"progress: number {number} is {kind}, which no runner says")
        last = next((u for u in self.updates("attempt_ended")), None)
        if last is not None and number > len(self.progress.stored):
            raise Failed("R13", f"progress: number {number} ({kind}) came after attempt_ended")
        if kind == "attempt_ended":
            self._look_at_end(update.attempt_ended)

    def _look_at_end(self, ended: progress_pb2.AttemptEnded) -> None:
        if self.end_refusals:
            return  # it was in order once; now it may come before the results that were lost
        told, highest = self.results.acknowledged, self.results.highest
        if ended.results_number > told or highest > told:
            seen = f"attempt_ended came with {highest} results sent and {told} of them acknowledged"
            raise Failed("R13", seen)
        if ended.results_number != highest:
            raise Failed("R13", f"results_number is {ended.results_number}, and {highest} results were sent")


@dataclass
class Beat:
    """One heartbeat."""

    time: float
    """By the monotonic clock, in seconds."""

    attempts: set[tuple[str, int]]
    """What it names."""


@dataclass
class Connection:
    """One control stream."""

    register: runner_pb2.Register
    time: float
    beats: list[Beat] = field(default_factory=list)
    draining: bool = False
    is_open: bool = True


def cut() -> MeshError:
    """The stream breaks."""
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "The stream is cut on purpose.")


def too_large() -> MeshError:
    """What a scheduler says to a request above its limit."""
    text = "The request is larger than is taken. Send less at once."
    return MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, text)
