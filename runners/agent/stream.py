"""Delivers one outbox over a bidirectional stream: each message once, in order, however often it is cut."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import Message

from runners.agent.outbox import Batch, Outbox, OutOfStep
from runners.agent.oversized import is_too_large
from runners.agent.transport import Backoff, Pulse, translated
from visionmesh.errors import MeshError, Reason

OUTBOX_BYTES = 8 * 1024 * 1024
"""Unacknowledged bytes from which the job process has to wait."""

OUTBOX_MESSAGES = 200_000
"""Unacknowledged messages from which the job process has to wait."""

RELIEF_SECONDS = 1.0
"""How often a full disk is tried again."""

OPEN_SECONDS = 10.0
"""Longest wait for the first response."""

ACKNOWLEDGE_SECONDS = 60.0
"""Longest wait for an acknowledgement on an open stream; then it is opened anew."""

M = TypeVar("M", bound=Message)


class Opening(Protocol):
    """What both numbered streams begin with."""

    job: str
    attempt: int


class Response(Protocol):
    """What both numbered streams answer."""

    committed_number: int


Resp = TypeVar("Resp", bound=Response)


class AttemptLost(Exception):
    """The attempt is not this runner's any more, or cannot be told any more: kill its job process."""


class _Interrupted(Exception):
    """The stream was cut; open it again."""

    def __init__(self, error: MeshError) -> None:
        super().__init__(str(error))
        self.error = error


class NumberedStream(Generic[M, Resp]):
    """One stream of one attempt, from the runner to the scheduler."""

    def __init__(
        self,
        name: str,
        open_call: Callable[[], "grpc.aio.StreamStreamCall[Any, Resp]"],
        opening: Opening,
        request: Callable[[int, Sequence[M]], Message],
        *,
        limit_bytes: int = OUTBOX_BYTES,
        backoff: Backoff | None = None,
        on_refusal: Callable[[MeshError], None] = lambda _: None,
        smaller: Callable[[M], M] = lambda message: message,
        outbox: Outbox[M] | None = None,
    ) -> None:
        """`opening` names job and attempt, `request` makes the others from first number and messages.

        `smaller` makes what takes the place of a message that is refused for its size.
        `on_refusal` hears what the scheduler said whenever it ended the stream.
        `outbox` keeps what is not acknowledged; by default in memory.
        """
        self._name, self._open_call, self._opening, self._request = name, open_call, opening, request
        self._limit_bytes, self._on_refusal, self._smaller = limit_bytes, on_refusal, smaller
        self._outbox: Outbox[M] = outbox if outbox is not None else Outbox()
        self._changed = Pulse()
        self._backoff = backoff or Backoff()
        self._first: asyncio.Future[Resp] = asyncio.get_running_loop().create_future()
        self._reopen = False
        self._unreadable: OSError | None = None
        self._log = structlog.get_logger(__name__).bind(stream=name, job=opening.job, attempt=opening.attempt)

    @property
    def last_number(self) -> int:
        """Number of the newest message; 0 before the first."""
        return self._outbox.last_number

    @property
    def pressure(self) -> float:
        """What is not acknowledged as a share of the limit; from 1 on `put` waits. A full disk is 1."""
        if self._outbox.is_full:
            return 1.0
        return max(
            self._outbox.waiting_bytes / self._limit_bytes, self._outbox.waiting_messages / OUTBOX_MESSAGES
        )

    def put_now(self, message: M) -> int:
        """Take a message, whatever waits already; returns its number."""
        number = self._outbox.append(message)
        self._changed.beat()
        return number

    async def put(self, message: M) -> int:
        """Take a message when there is room; returns its number."""
        while self.pressure >= 1:
            await self._room()
        return self.put_now(message)

    async def _room(self) -> None:
        """Wait for something to change; a full disk may have room again without a word."""
        if not self._outbox.is_full:
            await self._changed.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELIEF_SECONDS):
                await self._changed.wait()
        self._outbox.relieve()

    async def delivered(self) -> None:
        """Wait until everything that was taken until now is acknowledged."""
        number = self.last_number
        while self._outbox.acknowledged < number:
            await self._changed.wait()

    async def first_response(self) -> Resp:
        """The first thing that the scheduler ever said on the stream."""
        return await asyncio.shield(self._first)

    def reopen(self) -> None:
        """Ask the scheduler again how far it has come."""
        self._reopen = True
        self._changed.beat()

    async def run(self) -> None:
        """Deliver until cancelled. Raises AttemptLost."""
        while True:
            if self._unreadable is not None:
                raise AttemptLost(f"{self._name}: the journal cannot be read back: {self._unreadable}")
            try:
                await self._exchange()
            except _Interrupted as cut:
                self._log.info("stream interrupted", reason=cut.error.reason, why=str(cut.error))
                self._on_refusal(cut.error)
                if is_too_large(cut.error):
                    self._send_less()
                await self._backoff.wait(cut.error)
            except OutOfStep as why:
                raise AttemptLost(f"{self._name}: {why}") from why

    def _send_less(self) -> None:
        """After a batch was too large try its messages one by one; the one that still is gives way."""
        if self._outbox.is_careful:
            self._outbox.replace_first(self._smaller)
        else:
            self._outbox.be_careful()

    async def _exchange(self) -> None:
        """One stream from opening to its end. Raises _Interrupted, OutOfStep or AttemptLost."""
        call = self._open_call()
        self._reopen = False
        try:
            with _told():
                async with asyncio.timeout(OPEN_SECONDS):
                    first = await self._open(call)
            self._outbox.resume(first.committed_number)
            self._log.debug("acknowledged", number=first.committed_number)
            if not self._first.done():
                self._first.set_result(first)
            if self._outbox.is_delivered:  # else only an acknowledgement shows that all is well
                self._backoff.reset()
            self._changed.beat()
            await self._converse(call)
        finally:
            call.cancel()

    async def _open(self, call: "grpc.aio.StreamStreamCall[Any, Resp]") -> Resp:
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(self._opening)  # if it fails, read() tells why
        first = await call.read()
        if _is_end(first):
            raise _interrupted(f"the stream ended with {(await call.code()).name} before its first response")
        return cast("Resp", first)

    async def _converse(self, call: "grpc.aio.StreamStreamCall[Any, Resp]") -> None:
        """Send and hear acknowledgements until the stream ends. Raises as _exchange."""
        reading = asyncio.create_task(self._read(call))
        tasks = (reading, asyncio.create_task(self._send(call)), asyncio.create_task(self._watch()))
        try:
            await asyncio.wait({reading, tasks[2]}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                with _told():
                    reading.result()
                raise _interrupted(f"the server ended the stream with {(await call.code()).name}")
            raise _interrupted("a fresh start was asked for" if self._reopen else "no acknowledgement came")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, call: "grpc.aio.StreamStreamCall[Any, Resp]") -> None:
        while not _is_end(response := await call.read()):
            number = cast("Resp", response).committed_number
            if self._outbox.acknowledge(number):
                self._log.debug("acknowledged", number=number)
                self._backoff.reset()
                self._changed.beat()

    async def _send(self, call: "grpc.aio.StreamStreamCall[Any, Resp]") -> None:
        # A failed write says less than the status that read() is about to tell.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
            while True:
                batch = self._next_batch()
                if batch is None:
                    await self._changed.wait()
                else:
                    await call.write(self._request(batch.first_number, batch.messages))

    def _next_batch(self) -> Batch[M] | None:
        try:
            return self._outbox.next_batch()
        except OSError as error:  # run() says it: nobody hears what a sending task raises
            self._unreadable = error
            self.reopen()
            return None

    async def _watch(self) -> None:
        """Return when the stream should be opened anew."""
        while not self._reopen:
            before = self._outbox.acknowledged
            if self._outbox.is_delivered:
                await self._changed.wait()
                continue
            try:
                async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                    while self._outbox.acknowledged == before and not self._reopen:
                        await self._changed.wait()
            except TimeoutError:
                return


def _is_end(response: object) -> bool:
    # Not a comparison: protobuf messages and the marker do not know each other.
    return response is grpc.aio.EOF


def _interrupted(why: str) -> _Interrupted:
    return _Interrupted(MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, why))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a call raises into what it means for the stream."""
    try:
        with translated():
            yield
    except MeshError as error:
        raise _meaning(error) from error


def _meaning(error: MeshError) -> Exception:
    # The attempt is over, its job was deleted, or this runner speaks another language.
    final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
    if error.code in final or error.reason == Reason.ATTEMPT_SUPERSEDED:
        return AttemptLost(str(error))
    return _Interrupted(error)
