"""The scheduler's side of the protocol; the plays of an attempt say what goes wrong."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import protovalidate
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_status import rpc_status

from runners.conformance.observed import Attempt, Beat, Connection, Failed, Play, Side
from visionmesh import errors, limits
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import (
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
)

HEARTBEAT_SECONDS = 0.25
LEASE_SECONDS = 30
MOST_END_REFUSALS = 50
"""From this often on it is a loop."""

Context = Any
Requests = Any
_Key = tuple[str, int]


class Scheduler(
    runner_pb2_grpc.RunnerServiceServicer,
    progress_pb2_grpc.ProgressServiceServicer,
    result_pb2_grpc.ResultServiceServicer,
):
    """Knows the attempts that cases assign, and writes down what the runner does."""

    def __init__(self) -> None:
        self.attempts: dict[_Key, Attempt] = {}
        self.connections: list[Connection] = []
        self.broken: list[Failed] = []
        """Rules that were seen broken, in order."""
        self.objects: dict[str, bytes] = {}
        self.damages = 0
        """So many objects are sent with a wrong byte."""
        self.refuses_runner: MeshError | None = None
        """What every further register gets."""
        self._outgoing: asyncio.Queue[runner_pb2.ConnectResponse | MeshError] = asyncio.Queue()
        self._cuts: dict[int, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    async def until(self, true: Callable[[], object], rule: str, what: str, seconds: float = 20.0) -> None:
        """Wait until something is true. Raises Failed if it does not come, or a rule is broken before."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.broken or true())
        except TimeoutError:
            raise Failed(rule, f"{what} did not come within {seconds:g} s") from None
        if self.broken:
            raise self.broken[0]

    def say(self, **message: Any) -> None:
        """Say something on the control stream."""
        self._outgoing.put_nowait(runner_pb2.ConnectResponse(**message))

    def say_message(self, response: runner_pb2.ConnectResponse | MeshError) -> None:
        """Say a message as it is, or end the control stream with an error."""
        self._outgoing.put_nowait(response)

    def cut(self, side: Side) -> None:
        """Break an open stream."""
        if (event := self._cuts.get(id(side))) is not None:
            event.set()

    @property
    def connection(self) -> Connection:
        """The newest control stream."""
        return self.connections[-1]

    def named(self) -> set[_Key]:
        """Attempts that the newest heartbeat names; of a new stream, those in its register."""
        newest = self.connection
        if newest.beats:
            return newest.beats[-1].attempts
        return {(ref.job, ref.attempt) for ref in newest.register.attempts}

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _keeps(self, ref: runner_pb2.AttemptRef) -> bool:
        attempt = self.attempts.get((ref.job, ref.attempt))
        return attempt is not None and not (attempt.is_forgotten or attempt.is_unwanted)

    # The control stream.

    async def Connect(  # noqa: N802
        self, request_iterator: Requests, context: Context
    ) -> AsyncIterator[runner_pb2.ConnectResponse]:
        """Welcome a runner, listen to it, and say what cases want to be said."""
        async with self._refusing(context):
            connection = await self._introduced(request_iterator)
            yield self._welcome(connection.register)
            await self._tell()
            listening = asyncio.create_task(self._listen(connection, request_iterator))
            try:
                async for response in self._responses(listening):
                    yield response
            finally:
                connection.is_open = False
                listening.cancel()
                await self._tell()

    async def _introduced(self, requests: Requests) -> Connection:
        first = await anext(aiter(requests), runner_pb2.ConnectRequest())
        if not first.HasField("register"):
            raise Failed("R1", f"the first message is {first.WhichOneof('message')}, not register")
        try:
            protovalidate.validate(first)
        except protovalidate.ValidationError as error:
            raise Failed("R1", f"register is not valid: {error}") from error
        self._outgoing = asyncio.Queue()
        self.connections.append(Connection(first.register, time.monotonic()))
        await self._tell()
        if self.refuses_runner is not None:
            raise self.refuses_runner
        return self.connection

    def _welcome(self, register: runner_pb2.Register) -> runner_pb2.ConnectResponse:
        welcome = runner_pb2.Registered(
            runner=f"runners/{register.runner_id}",
            heartbeat_interval=Duration(nanos=int(HEARTBEAT_SECONDS * 1e9)),
            lease_duration=Duration(seconds=LEASE_SECONDS),
            keep=[ref for ref in register.attempts if self._keeps(ref)],
        )
        return runner_pb2.ConnectResponse(registered=welcome)

    async def _responses(self, listening: "asyncio.Task[None]") -> AsyncIterator[runner_pb2.ConnectResponse]:
        while True:
            getting = asyncio.create_task(self._outgoing.get())
            try:
                await asyncio.wait({getting, listening}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    listening.result()
                    return
            finally:
                getting.cancel()
            response = getting.result()
            if isinstance(response, MeshError):
                raise response
            yield response

    async def _listen(self, connection: Connection, requests: Requests) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "heartbeat":
                    self._beat(connection, request.heartbeat)
                case "assignment_reply":
                    reply = request.assignment_reply
                    if (attempt := self.attempts.get((reply.job, reply.attempt))) is None:
                        raise Failed("R3", f"{reply.job} is answered, which was not assigned")
                    attempt.replies.append(reply)
                case "draining":
                    connection.draining = True
                case other:
                    raise Failed("R1", f"{other} came on an open control stream")
            await self._tell()

    def _beat(self, connection: Connection, heartbeat: runner_pb2.Heartbeat) -> None:
        named = {(ref.job, ref.attempt) for ref in heartbeat.attempts}
        connection.beats.append(Beat(time.monotonic(), named))
        kill = [ref for ref in heartbeat.attempts if not self._keeps(ref)]
        stored = runner_pb2.HeartbeatStored(kill=kill)
        stored.lease_expire_time.FromSeconds(int(time.time()) + LEASE_SECONDS)
        self.say(heartbeat_stored=stored)

    # The numbered streams.

    async def ReportProgress(  # noqa: N802
        self, request_iterator: Requests, context: Context
    ) -> AsyncIterator[progress_pb2.ReportProgressResponse]:
        """Take updates."""
        async with self._refusing(context):
            async for number in self._exchange(request_iterator, "progress", "updates"):
                yield progress_pb2.ReportProgressResponse(committed_number=number)

    async def PublishResults(  # noqa: N802
        self, request_iterator: Requests, context: Context
    ) -> AsyncIterator[result_pb2.PublishResultsResponse]:
        """Take results."""
        async with self._refusing(context):
            async for number in self._exchange(request_iterator, "results", "items"):
                yield result_pb2.PublishResultsResponse(committed_number=number)

    async def _exchange(self, requests: Requests, name: str, items: str) -> AsyncIterator[int]:
        """The numbers to answer with, from the opening to the end of a stream."""
        attempt = self._opened(await anext(aiter(requests)), items)
        side: Side = getattr(attempt, name)
        play = side.begin()
        await self._tell()
        if play.refusal is not None:
            raise play.refusal
        yield side.stated(play)
        event = self._cuts[id(side)] = asyncio.Event()
        async for request in _until(event, requests):
            for number in self._take(attempt, side, play, request.first_number, getattr(request, items)):
                yield number
            await self._tell()

    def _opened(self, opening: Any, items: str) -> Attempt:
        attempt = self.attempts.get((opening.job, opening.attempt))
        if attempt is None or getattr(opening, items):
            seen = f"the opening names {opening.job!r}, attempt {opening.attempt}, with messages"
            raise Failed(
                "R5", seen if attempt is not None else seen.replace("with messages", "never assigned")
            )
        if attempt.is_forgotten:
            attempt.touched_after += 1
            raise errors.superseded(attempt.job, attempt.number)
        return attempt

    def _take(
        self, attempt: Attempt, side: Side, play: Play, first: int, messages: Sequence[Message]
    ) -> list[int]:
        """Store messages; the acknowledgements to send."""
        if attempt.is_forgotten:
            raise errors.superseded(attempt.job, attempt.number)
        if any(isinstance(m, progress_pb2.ProgressUpdate) and m.HasField("attempt_ended") for m in messages):
            _take_end(attempt, side, play, first, messages)
        before = side.acknowledged
        side.take(play, first, messages)
        if play.silent:
            return []
        side.acknowledged = len(side.stored)
        side.unacknowledged_bytes = 0
        return [side.acknowledged, before, side.acknowledged] if play.repeats else [side.acknowledged]

    # Objects.

    async def FetchObject(  # noqa: N802
        self, request: runner_pb2.FetchObjectRequest, context: Context
    ) -> AsyncIterator[runner_pb2.FetchObjectResponse]:
        """Send inputs."""
        async with self._refusing(context):
            attempt = self.attempts.get((request.job, request.attempt))
            if attempt is None or attempt.is_forgotten:
                raise errors.superseded(request.job, request.attempt)
            attempt.fetches += 1
            for asked in request.uris:
                for uri in sorted(self.objects):
                    if uri == asked or (asked.endswith("/") and uri.startswith(asked)):
                        for piece in self._pieces(asked, uri):
                            yield piece

    def _pieces(self, asked: str, uri: str) -> list[runner_pb2.FetchObjectResponse]:
        data = self.objects[uri]
        path = uri.removeprefix(asked) or uri.rpartition("/")[2]
        digest = hashlib.sha256(data).hexdigest()
        header = runner_pb2.ObjectHeader(uri=uri, path=path, size_bytes=len(data), sha256=digest)
        if self.damages and data:
            self.damages -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        return [
            runner_pb2.FetchObjectResponse(header=header),
            runner_pb2.FetchObjectResponse(chunk=data[: limits.MAX_CHUNK_BYTES]),
        ]

    async def StoreObject(  # noqa: N802
        self, request_iterator: Requests, context: Context
    ) -> runner_pb2.StoreObjectResponse:
        """Take a file."""
        async with self._refusing(context):
            header = (await anext(aiter(request_iterator))).header
            digest, size = hashlib.sha256(), 0
            async for request in request_iterator:
                digest.update(request.chunk)
                size += len(request.chunk)
            attempt = self.attempts.get((header.job, header.attempt))
            if attempt is None or attempt.is_forgotten:
                raise errors.superseded(header.job, header.attempt)
            if (digest.hexdigest(), size) != (header.sha256, header.size_bytes):
                raise MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, "Other bytes than announced.")
        return runner_pb2.StoreObjectResponse(uri=f"file:///conformance/{header.path}")

    @contextlib.asynccontextmanager
    async def _refusing(self, context: Context) -> AsyncIterator[None]:
        """Send a MeshError as it should be; note a broken rule and end the stream."""
        try:
            yield
        except Failed as failed:
            self.broken.append(failed)
            await self._tell()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(failed))
        except MeshError as error:
            await self._tell()
            status = rpc_status.to_status(errors.status_of(error))
            context.set_trailing_metadata(status.trailing_metadata)
            await context.abort(status.code, status.details)


def _take_end(attempt: Attempt, side: Side, play: Play, first: int, messages: Sequence[Message]) -> None:
    """Refuse the end of an attempt if results are gone, or still are. Raises MeshError or Failed."""
    lost, play.outstanding = play.outstanding, 0
    if not lost and len(attempt.results.stored) >= attempt.results.highest:
        return
    side.take(Play(silent=True), first, messages)
    attempt.end_refusals += 1
    if attempt.end_refusals > MOST_END_REFUSALS:
        raise Failed("R14", f"attempt_ended came {attempt.end_refusals} times while results are outstanding")
    attempt.results.lose(lost)
    text = f"Of the results only {len(attempt.results.stored)} are stored. Open PublishResults again."
    raise errors.precondition(Reason.RESULTS_OUTSTANDING, text, job=attempt.job)


async def _until(event: asyncio.Event, requests: Requests) -> AsyncIterator[Any]:
    """The requests, until they end or the event breaks the stream."""
    cutting = asyncio.create_task(event.wait())
    iterator = aiter(requests)
    try:
        while True:
            reading = asyncio.ensure_future(anext(iterator, None))
            await asyncio.wait({reading, cutting}, return_when=asyncio.FIRST_COMPLETED)
            if cutting.done():
                reading.cancel()
                raise MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "The stream is cut.")
            if (request := reading.result()) is None:
                return
            yield request
    finally:
        cutting.cancel()
