"""The runner's control stream: the lease, assignments in, answers out."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import grpc
import structlog

from runners.agent.transport import QUICK_PING_SECONDS, Backoff, open_channel, translated
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import runner_pb2, runner_pb2_grpc

ANSWER_SECONDS = 15.0
"""Longest wait for the welcome."""

LONGEST_WAIT = 2.0
"""Seconds from one try to connect to the next, at most: the lease runs meanwhile."""

Call = grpc.aio.StreamStreamCall[Any, runner_pb2.ConnectResponse]

log = structlog.get_logger(__name__)


class RunnerRefused(Exception):
    """The scheduler does not want this runner; trying again would not help."""


class Handler(Protocol):
    """Who has the attempts."""

    def attempts(self) -> list[runner_pb2.AttemptRef]:
        """Those that it has at this moment."""

    def assign(self, assignment: runner_pb2.Assignment) -> str:
        """Take a job; why not, or nothing."""

    def cancel(self, cancel: runner_pb2.CancelAttempt) -> None:
        """Stop an attempt, gracefully."""

    def kill(self, refs: Iterable[runner_pb2.AttemptRef], why: str) -> None:
        """End attempts at once; those that it does not have are passed over."""


class Control:
    """Keeps a control stream open."""

    def __init__(self, address: str, register: Callable[[], runner_pb2.Register], handler: Handler) -> None:
        """`register` is asked at each connect, and names the attempts of that moment."""
        self._address, self._register, self._handler = address, register, handler
        self._outgoing: asyncio.Queue[runner_pb2.ConnectRequest] = asyncio.Queue()
        self._again = asyncio.Event()
        self._draining = False
        self._backoff = Backoff(longest=LONGEST_WAIT)
        self.connected = asyncio.Event()
        """Set while the scheduler knows this runner."""

    def drain(self) -> None:
        """Tell the scheduler, now and at each connect, that this runner wants no more work."""
        if not self._draining:
            self._draining = True
            self._say_draining()

    def reconnect(self) -> None:
        """Register anew, so that the scheduler hears which attempts are left."""
        self._again.set()

    async def run(self) -> None:
        """Stay connected until cancelled. Raises RunnerRefused."""
        while True:
            try:
                await asyncio.sleep(await self._connect())
            except MeshError as error:
                _raise_if_refused(error)
                log.warning("scheduler not reached", address=self._address, why=str(error))
                await self._backoff.wait(error)

    async def _connect(self) -> float:
        """One stream, on a channel of its own, from registration to its end.

        Returns the seconds to wait before the next one. Raises MeshError.
        """
        channel = open_channel(self._address, QUICK_PING_SECONDS)
        call: Call = runner_pb2_grpc.RunnerServiceStub(channel).Connect()
        try:
            welcome = await self._introduce(call)
            self._backoff.reset()
            self.connected.set()
            return await self._converse(call, welcome)
        finally:
            self.connected.clear()
            await channel.close()

    async def _introduce(self, call: Call) -> runner_pb2.Registered:
        self._again.clear()
        self._outgoing = asyncio.Queue()  # answers to another stream's questions are worth nothing
        register = self._register()
        with translated():
            async with asyncio.timeout(ANSWER_SECONDS):
                with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    await call.write(runner_pb2.ConnectRequest(register=register))
                response = await call.read()
        if not isinstance(response, runner_pb2.ConnectResponse) or not response.HasField("registered"):
            raise _cut("the scheduler did not welcome this runner")
        welcome = response.registered
        log.info("registered", runner=welcome.runner, address=self._address, keeps=len(welcome.keep))
        keep = {(ref.job, ref.attempt) for ref in welcome.keep}
        gone = [ref for ref in register.attempts if (ref.job, ref.attempt) not in keep]
        self._handler.kill(gone, "the scheduler has given it up while this runner was away")
        if self._draining:
            self._say_draining()
        return welcome

    async def _converse(self, call: Call, welcome: runner_pb2.Registered) -> float:
        """Heartbeats, answers and questions until the stream is to be opened anew.

        Returns the seconds to wait before that. Raises MeshError.
        """
        interval = welcome.heartbeat_interval.ToTimedelta().total_seconds()
        lease = welcome.lease_duration.ToTimedelta().total_seconds()
        reading = asyncio.create_task(self._read(call, lease))
        again = asyncio.create_task(self._again.wait())
        tasks: list[asyncio.Task[Any]] = [
            reading,
            again,
            asyncio.create_task(self._write(call)),
            asyncio.create_task(self._beat(interval)),
        ]
        try:
            await asyncio.wait({reading, again}, return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else 0.0
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self, interval: float) -> None:
        while True:
            heartbeat = runner_pb2.Heartbeat(attempts=self._handler.attempts())
            self._outgoing.put_nowait(runner_pb2.ConnectRequest(heartbeat=heartbeat))
            await asyncio.sleep(interval)

    async def _write(self, call: Call) -> None:
        # If a write fails, read() is about to tell why.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
            while True:
                await call.write(await self._outgoing.get())

    async def _read(self, call: Call, lease: float) -> float:
        """Hear until the scheduler sends this runner away; the seconds that it asks to wait.

        Raises MeshError when the stream ends, or is silent for a whole lease.
        """
        while True:
            with translated():
                async with asyncio.timeout(lease):
                    response = await call.read()
            if not isinstance(response, runner_pb2.ConnectResponse):
                raise _cut("the scheduler ended the control stream")
            if response.HasField("reconnect"):
                delay = response.reconnect.delay.ToTimedelta().total_seconds()
                log.info("scheduler asks to connect anew", in_s=delay)
                return delay + self._backoff.next()
            self._hear(response)

    def _hear(self, response: runner_pb2.ConnectResponse) -> None:
        match response.WhichOneof("message"):
            case "assignment":
                self._answer(response.assignment)
            case "cancel_attempt":
                self._handler.cancel(response.cancel_attempt)
            case "heartbeat_stored":
                self._handler.kill(response.heartbeat_stored.kill, "the scheduler has given it up")
            case other:
                log.warning("message ignored", message=other)

    def _answer(self, assignment: runner_pb2.Assignment) -> None:
        refusal = self._handler.assign(assignment)
        reply = runner_pb2.AssignmentReply(
            job=assignment.job.name, attempt=assignment.attempt, accepted=not refusal, reason=refusal
        )
        self._outgoing.put_nowait(runner_pb2.ConnectRequest(assignment_reply=reply))

    def _say_draining(self) -> None:
        self._outgoing.put_nowait(runner_pb2.ConnectRequest(draining=runner_pb2.Draining()))


def _cut(why: str) -> MeshError:
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, why)


def _raise_if_refused(error: MeshError) -> None:
    final = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED)
    if error.reason == Reason.RUNNER_SUPERSEDED or error.code in final:
        raise RunnerRefused(str(error)) from error
