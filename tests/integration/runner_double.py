"""A scripted runner: it speaks the real protocol to the real scheduler, and does what a test says."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from runners.ultralytics.manifest import manifest
from visionmesh.errors import MeshError, error_of
from visionmesh.v1 import (
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
    vision_pb2,
)

PATIENCE = 10.0
"""Seconds after which something that a test waits for has failed to come."""


def refusal(error: grpc.aio.AioRpcError) -> MeshError:
    """What the scheduler said, as the MeshError that it raised."""
    said = rpc_status.from_call(error)
    return error_of(said or status_pb2.Status(code=error.code().value[0], message=error.details() or ""))


class Numbered:
    """A numbered stream of one attempt: opened, written to, acknowledged."""

    def __init__(self, method: Any, kind: Any, items: str, job: str, attempt: int) -> None:
        self._call, self._kind, self._items = method(), kind, items
        self._opening = kind(job=job, attempt=attempt)
        self.number = 0
        self.opened: Any = None

    async def open(self) -> Self:
        """Send the opening request and go on from what is stored. Raises MeshError."""
        self.opened = await self.exchange(self._opening)
        self.number = self.opened.committed_number
        return self

    async def exchange(self, request: Any) -> Any:
        """Send one request and wait for its answer. Raises MeshError."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._call.write(request)
                answer = await self._call.read()
                if answer is grpc.aio.EOF:
                    await self._call.wait_for_connection()
                    raise AssertionError(f"the stream ended with {await self._call.code()}")
                return answer
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None
        except asyncio.InvalidStateError:
            raise MeshError(await self._call.code(), "", await self._call.details()) from None

    async def send_from(self, first_number: int, *items: Any) -> int:
        """Send items under numbers of the test's choice; returns the committed number."""
        request = self._kind(first_number=first_number, **{self._items: items})
        return int((await self.exchange(request)).committed_number)

    async def send(self, *items: Any) -> int:
        """Send the next items; returns the committed number."""
        self.number = await self.send_from(self.number + 1, *items)
        return self.number

    def close(self) -> None:
        """Cut the stream."""
        self._call.cancel()


class RunnerDouble:
    """A connected runner. Assignments are accepted by `take`, or left alone."""

    def __init__(
        self,
        address: str,
        runner_id: str,
        framework: str,
        *,
        slots: int = 1,
        incarnation: str = "incarnation-1",
        attempts: Sequence[tuple[str, int]] = (),
        labels: dict[str, str] | None = None,
        fetches_pretrained: bool = False,
    ) -> None:
        self.name = f"runners/{runner_id}"
        self.registered = runner_pb2.Registered()
        self.assignments: asyncio.Queue[runner_pb2.Assignment] = asyncio.Queue()
        self.cancels: asyncio.Queue[runner_pb2.CancelAttempt] = asyncio.Queue()
        self.beats: asyncio.Queue[runner_pb2.HeartbeatStored] = asyncio.Queue()
        self.sent_away = asyncio.Event()
        """Set once the scheduler has asked it to connect anew."""
        self.holds: set[tuple[str, int]] = set(attempts)
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.stub: Any = runner_pb2_grpc.RunnerServiceStub(self._channel)
        self.progress_stub: Any = progress_pb2_grpc.ProgressServiceStub(self._channel)
        self.result_stub: Any = result_pb2_grpc.ResultServiceStub(self._channel)
        described = manifest()
        described.framework, described.fetches_pretrained = framework, fetches_pretrained
        self._register = runner_pb2.Register(
            runner_id=runner_id,
            incarnation=incarnation,
            version="0",
            hostname="test",
            capacity=runner_pb2.RunnerCapacity(slots=slots, cpus=4),
            labels=labels or {},
            manifest=described,
            attempts=[runner_pb2.AttemptRef(job=job, attempt=number) for job, number in attempts],
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._call: Any = None

    async def __aenter__(self) -> Self:
        self._call = self.stub.Connect()
        await self._call.write(runner_pb2.ConnectRequest(register=self._register))
        self.registered = (await self._call.read()).registered
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._keep_beating())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.vanish()

    async def vanish(self) -> None:
        """Be gone without a word."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def _listen(self) -> None:
        while (response := await self._call.read()) is not grpc.aio.EOF:
            match response.WhichOneof("message"):
                case "assignment":
                    self.assignments.put_nowait(response.assignment)
                case "cancel_attempt":
                    self.cancels.put_nowait(response.cancel_attempt)
                case "heartbeat_stored":
                    self.beats.put_nowait(response.heartbeat_stored)
                case "reconnect":
                    self.sent_away.set()

    async def _keep_beating(self) -> None:
        interval = self.registered.heartbeat_interval.ToTimedelta().total_seconds()
        while True:
            await asyncio.sleep(interval)
            await self.beat()

    async def beat(self) -> None:
        """Send a heartbeat that names the attempts that it holds."""
        refs = [runner_pb2.AttemptRef(job=job, attempt=number) for job, number in sorted(self.holds)]
        beat = runner_pb2.Heartbeat(attempts=refs)
        await self._call.write(runner_pb2.ConnectRequest(heartbeat=beat))

    async def say(self, request: runner_pb2.ConnectRequest) -> None:
        """Send anything on the control stream."""
        await self._call.write(request)

    async def ended_with(self) -> MeshError:
        """Wait until the scheduler ends the control stream; returns what it said."""
        async with asyncio.timeout(PATIENCE):
            with_error = await asyncio.gather(self._tasks[0], return_exceptions=True)
        assert isinstance(with_error[0], grpc.aio.AioRpcError), with_error
        error = refusal(with_error[0])
        error.__cause__ = with_error[0]
        return error

    async def say_draining(self) -> None:
        """Want no more work."""
        await self._call.write(runner_pb2.ConnectRequest(draining=runner_pb2.Draining()))

    async def next_assignment(self) -> runner_pb2.Assignment:
        """Wait for an assignment, and do not answer it."""
        async with asyncio.timeout(PATIENCE):
            return await self.assignments.get()

    async def answer(self, assignment: runner_pb2.Assignment, accepted: bool, reason: str = "") -> None:
        """Answer an assignment."""
        reply = runner_pb2.AssignmentReply(
            job=assignment.job.name, attempt=assignment.attempt, accepted=accepted, reason=reason
        )
        await self._call.write(runner_pb2.ConnectRequest(assignment_reply=reply))
        if accepted:
            self.holds.add((assignment.job.name, assignment.attempt))

    async def take(self) -> runner_pb2.Assignment:
        """Wait for an assignment and accept it."""
        assignment = await self.next_assignment()
        await self.answer(assignment, True)
        return assignment

    async def progress(self, job: str, attempt: int) -> Numbered:
        """Open a ReportProgress stream. Raises MeshError."""
        method = self.progress_stub.ReportProgress
        return await Numbered(method, progress_pb2.ReportProgressRequest, "updates", job, attempt).open()

    async def results(self, job: str, attempt: int) -> Numbered:
        """Open a PublishResults stream. Raises MeshError."""
        method = self.result_stub.PublishResults
        return await Numbered(method, result_pb2.PublishResultsRequest, "items", job, attempt).open()

    async def start(self) -> tuple[runner_pb2.Assignment, Numbered]:
        """Take the next assignment and report that its process has started."""
        assignment = await self.take()
        stream = await self.progress(assignment.job.name, assignment.attempt)
        await stream.send(started())
        return assignment, stream

    async def run(self, *updates: progress_pb2.ProgressUpdate) -> runner_pb2.Assignment:
        """Take the next assignment and run it: `updates`, by default none, then success."""
        assignment, stream = await self.start()
        await stream.send(*updates, *(() if updates and ends(updates[-1]) else (ended(),)))
        self.holds.discard((assignment.job.name, assignment.attempt))
        stream.close()
        return assignment

    async def store(self, job: str, attempt: int, path: str, data: bytes, **header: Any) -> str:
        """Store a file of an attempt; returns its URI. Raises MeshError."""
        fields = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} | header
        first = runner_pb2.StoreObjectHeader(job=job, attempt=attempt, path=path, **fields)

        async def requests() -> AsyncIterator[runner_pb2.StoreObjectRequest]:
            yield runner_pb2.StoreObjectRequest(header=first)
            for start in range(0, len(data), 65536):
                yield runner_pb2.StoreObjectRequest(chunk=data[start : start + 65536])

        try:
            return str((await self.stub.StoreObject(requests(), timeout=PATIENCE)).uri)
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None

    async def fetch(self, job: str, attempt: int, *uris: str) -> dict[str, bytes]:
        """Fetch objects; returns their bytes by path. Raises MeshError."""
        request = runner_pb2.FetchObjectRequest(job=job, attempt=attempt, uris=uris)
        found: dict[str, bytes] = {}
        path = ""
        try:
            async for response in self.stub.FetchObject(request, timeout=PATIENCE):
                if response.HasField("header"):
                    path = response.header.path
                    found[path] = b""
                else:
                    found[path] += response.chunk
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None
        return found


def started() -> progress_pb2.ProgressUpdate:
    """The job process has started."""
    return progress_pb2.ProgressUpdate(
        attempt_started=progress_pb2.AttemptStarted(
            pid=1, package_versions={"torch": "0"}, hardware=["cpu: 1 core"], device="cpu", seed=7
        )
    )


def epoch(number: int, total: int = 3, **metrics: float) -> progress_pb2.ProgressUpdate:
    """An epoch was completed."""
    return progress_pb2.ProgressUpdate(
        epoch_completed=progress_pb2.EpochCompleted(epoch=number, total_epochs=total, metrics=metrics)
    )


def line(text: str) -> progress_pb2.ProgressUpdate:
    """The job process said something."""
    return progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message=text))


def ended(
    outcome: str = "SUCCEEDED", cause: str = "UNSPECIFIED", message: str = "", results_number: int = 0
) -> progress_pb2.ProgressUpdate:
    """The attempt is over."""
    return progress_pb2.ProgressUpdate(
        attempt_ended=progress_pb2.AttemptEnded(
            outcome=vision_pb2.AttemptState.Value(f"ATTEMPT_STATE_{outcome}"),
            cause=vision_pb2.AttemptCause.Value(f"ATTEMPT_CAUSE_{cause}"),
            error=status_pb2.Status(code=2, message=message) if message else None,
            results_number=results_number,
        )
    )


def ends(update: progress_pb2.ProgressUpdate) -> bool:
    """Whether the update ends its attempt."""
    return update.HasField("attempt_ended")
