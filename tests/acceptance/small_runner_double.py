"""A runner of its own, made from docs/protocol.md, that can be told to break one rule.

    python small_runner_double.py ADDRESS [MUTATION]

Its training is colour_framework's, inside the runner's own process.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import colour_framework
import grpc
from grpc_status import rpc_status

from visionmesh.errors import Reason, error_of
from visionmesh.v1 import (
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
    vision_pb2,
)

MUTATIONS = (
    "renumbers",
    "ends_early",
    "ignores_aborted",
    "loops_on_size",
    "changes_content",
    "ignores_kill",
)
MUTATION = sys.argv[2] if len(sys.argv) > 2 else ""
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
LIMIT = 1000  # messages that wait before the training does
TRY_AGAIN_SECONDS = 0.05


class Lost(Exception):
    """The attempt is not ours any more."""


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """Whether the size is the matter, and not a store that is full for a moment."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    return status is not None and error_of(status).reason == Reason.MESSAGE_TOO_LARGE


class Stream:
    """One numbered stream of one attempt."""

    def __init__(self, method: Any, kind: Any, field: str, ref: runner_pb2.AttemptRef) -> None:
        self._method, self._kind, self._field, self._ref = method, kind, field, ref
        self.messages: list[Any] = []
        self.committed = 0
        self._singly_until = 0
        self.changed = asyncio.Condition()
        self._call: Any = None

    async def put(self, message: Any) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.messages) - self.committed < LIMIT)
            self.messages.append(message)
            self.changed.notify_all()

    async def delivered(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.committed == len(self.messages))

    def reopen(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def run(self) -> None:
        while True:
            try:
                await self._exchange()
            except grpc.aio.AioRpcError as error:
                self._consider(error)
            except (asyncio.InvalidStateError, EOFError):
                pass
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
            await asyncio.sleep(TRY_AGAIN_SECONDS)

    def _consider(self, error: grpc.aio.AioRpcError) -> None:
        final = (grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        if error.code() in final and MUTATION != "ignores_aborted":
            raise Lost(error.details())
        if is_too_large(error) and MUTATION != "loops_on_size":
            if self._singly_until > self.committed:
                line = progress_pb2.LogLine(message="A message was too large and is left out.")
                self.messages[self.committed] = progress_pb2.ProgressUpdate(log_line=line)
            self._singly_until = len(self.messages)
        if MUTATION == "renumbers":
            del self.messages[: self.committed]

    async def _exchange(self) -> None:
        self._call = call = self._method()
        try:
            await call.write(self._kind(job=self._ref.job, attempt=self._ref.attempt))
            committed = (await self._read(call)).committed_number
            if committed > len(self.messages):
                raise Lost(f"{committed} is stated, {len(self.messages)} were made")
            await self._acknowledged(committed)
            sending = asyncio.create_task(self._send(call))
            try:
                while True:
                    await self._acknowledged(max(self.committed, (await self._read(call)).committed_number))
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            call.cancel()

    async def _read(self, call: Any) -> Any:
        response = await call.read()
        if response is grpc.aio.EOF:
            raise EOFError
        return response

    async def _acknowledged(self, number: int) -> None:
        async with self.changed:
            self.committed = number
            self.changed.notify_all()

    async def _send(self, call: Any) -> None:
        sent = self.committed
        if MUTATION == "renumbers":
            sent = 0
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: len(self.messages) > sent and self._may_send(sent))  # noqa: B023
            batch = self.messages[sent : sent + (1 if self._singly_until > self.committed else 100)]
            if MUTATION == "changes_content":
                for message in batch:
                    if isinstance(message, progress_pb2.ProgressUpdate):
                        message.event_time.GetCurrentTime()
            await call.write(self._kind(first_number=sent + 1, **{self._field: batch}))
            sent += len(batch)

    def _may_send(self, sent: int) -> bool:
        return self._singly_until <= self.committed or sent == self.committed


class Attempt:
    """One attempt, from its inputs to its end."""

    def __init__(self, assignment: runner_pb2.Assignment, channel: grpc.aio.Channel) -> None:
        self.ref = runner_pb2.AttemptRef(job=assignment.job.name, attempt=assignment.attempt)
        self._assignment = assignment
        self._runners: Any = runner_pb2_grpc.RunnerServiceStub(channel)
        progress: Any = progress_pb2_grpc.ProgressServiceStub(channel)
        results: Any = result_pb2_grpc.ResultServiceStub(channel)
        self.progress = Stream(
            progress.ReportProgress, progress_pb2.ReportProgressRequest, "updates", self.ref
        )
        self.results = Stream(results.PublishResults, result_pb2.PublishResultsRequest, "items", self.ref)
        self.stop: tuple[int, int] | None = None  # outcome and cause

    async def run(self) -> None:
        tasks = [
            asyncio.create_task(part) for part in (self._work(), self.progress.run(), self.results.run())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(Lost):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            while not await self._fetch(Path(folder)):
                pass
            samples = colour_framework.read(Path(folder))
        await self._say(attempt_started=progress_pb2.AttemptStarted(pid=os.getpid(), device="cpu"))
        outcome, cause = await self._train(samples)
        if MUTATION != "ends_early":
            await self.results.delivered()
        ended = progress_pb2.AttemptEnded(
            outcome=outcome, cause=cause, results_number=len(self.results.messages)
        )
        await self._say(attempt_ended=ended)
        while self.progress.committed < len(self.progress.messages):
            if self.results.committed == len(self.results.messages):
                self.results.reopen()  # if results are outstanding, only a new opening says so
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.progress.delivered()

    async def _fetch(self, folder: Path) -> bool:
        uri = self._assignment.dataset.uri
        request = runner_pb2.FetchObjectRequest(job=self.ref.job, attempt=self.ref.attempt, uris=[uri])
        files: list[tuple[runner_pb2.ObjectHeader, bytes]] = []
        async for piece in self._runners.FetchObject(request):
            if piece.HasField("header"):
                files.append((piece.header, b""))
            else:
                files[-1] = (files[-1][0], files[-1][1] + piece.chunk)
        for header, data in files:
            (folder / header.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / header.path).write_bytes(data)
        return all(hashlib.sha256(data).hexdigest() == header.sha256 for header, data in files)

    async def _train(self, samples: list[colour_framework.Sample]) -> tuple[int, int]:
        total, weights = self._assignment.job.train.epochs, [0.0] * 4
        for epoch in range(1, total + 1):
            if self.stop is not None:
                return self.stop
            weights, loss = colour_framework.step(weights, samples)
            await self._say(
                epoch_completed=progress_pb2.EpochCompleted(
                    epoch=epoch, total_epochs=total, metrics={"train_loss": loss}
                )
            )
            await asyncio.sleep(0.01)
        await self.results.put(result_pb2.ResultItem(training=result_pb2.TrainingResult(best_epoch=total)))
        return vision_pb2.ATTEMPT_STATE_SUCCEEDED, vision_pb2.ATTEMPT_CAUSE_UNSPECIFIED

    async def _say(self, **what: Any) -> None:
        update = progress_pb2.ProgressUpdate(**what)
        update.event_time.GetCurrentTime()
        await self.progress.put(update)


class Runner:
    """One slot."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._incarnation = secrets.token_hex(8)
        self._channel = grpc.aio.insecure_channel(address, options=KEEPALIVE)
        self._attempts: dict[tuple[str, int], tuple[Attempt, asyncio.Task[None]]] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        while not self._stopping.is_set():
            async with grpc.aio.insecure_channel(self._address, options=KEEPALIVE) as channel:
                stub: Any = runner_pb2_grpc.RunnerServiceStub(channel)
                try:
                    await self._connect(stub.Connect())
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.ABORTED:
                        break
                except (asyncio.InvalidStateError, EOFError):
                    pass
            await asyncio.sleep(TRY_AGAIN_SECONDS)
        self._drop(list(self._attempts))
        await asyncio.gather(*(task for _, task in self._attempts.values()), return_exceptions=True)
        await self._channel.close()

    async def _connect(self, call: Any) -> None:
        register = runner_pb2.Register(
            runner_id="small",
            incarnation=self._incarnation,
            capacity=runner_pb2.RunnerCapacity(slots=1, cpus=1),
            manifest=colour_framework.Colours().manifest(),
            attempts=self._refs(),
        )
        await call.write(runner_pb2.ConnectRequest(register=register))
        welcome = (await call.read()).registered
        kept = {(ref.job, ref.attempt) for ref in welcome.keep}
        self._drop([key for key in self._attempts if key not in kept])
        interval = welcome.heartbeat_interval.ToTimedelta().total_seconds()
        tasks = [asyncio.create_task(self._hear(call)), asyncio.create_task(self._stopped(call))]
        beating = asyncio.create_task(self._beat(call, interval))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in (*tasks, beating):
                task.cancel()
            await asyncio.gather(*tasks, beating, return_exceptions=True)

    async def _beat(self, call: Any, interval: float) -> None:
        while True:
            heartbeat = runner_pb2.Heartbeat(attempts=self._refs())
            await call.write(runner_pb2.ConnectRequest(heartbeat=heartbeat))
            await asyncio.sleep(interval)

    async def _stopped(self, call: Any) -> None:
        await self._stopping.wait()
        await call.write(runner_pb2.ConnectRequest(draining=runner_pb2.Draining()))
        for attempt, _ in self._attempts.values():
            attempt.stop = (vision_pb2.ATTEMPT_STATE_RELEASED, vision_pb2.ATTEMPT_CAUSE_DRAINED)
        await asyncio.wait(
            [task for _, task in self._attempts.values()] or [asyncio.create_task(asyncio.sleep(0))]
        )

    async def _hear(self, call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            match response.WhichOneof("message"):
                case "assignment":
                    await self._assigned(call, response.assignment)
                case "cancel_attempt":
                    cancel = response.cancel_attempt
                    found = self._attempts.get((cancel.job, cancel.attempt))
                    if found is not None:
                        found[0].stop = (vision_pb2.ATTEMPT_STATE_CANCELLED, cancel.cause)
                case "heartbeat_stored":
                    self._drop([(ref.job, ref.attempt) for ref in response.heartbeat_stored.kill])
                case "reconnect":
                    await asyncio.sleep(response.reconnect.delay.ToTimedelta().total_seconds())
                    return
        raise EOFError

    async def _assigned(self, call: Any, assignment: runner_pb2.Assignment) -> None:
        key = (assignment.job.name, assignment.attempt)
        full = key not in self._attempts and bool(self._attempts)
        if not full and key not in self._attempts:
            attempt = Attempt(assignment, self._channel)
            task = asyncio.create_task(attempt.run())
            task.add_done_callback(lambda _: self._attempts.pop(key))
            self._attempts[key] = (attempt, task)
        reply = runner_pb2.AssignmentReply(
            job=key[0], attempt=key[1], accepted=not full, reason="no free slot" if full else ""
        )
        await call.write(runner_pb2.ConnectRequest(assignment_reply=reply))

    def _drop(self, keys: list[tuple[str, int]]) -> None:
        for key in keys:
            if key in self._attempts and MUTATION != "ignores_kill":
                self._attempts[key][1].cancel()

    def _refs(self) -> list[runner_pb2.AttemptRef]:
        return [attempt.ref for attempt, _ in self._attempts.values()]


async def main() -> None:
    await Runner(sys.argv[1]).run()


if __name__ == "__main__":
    asyncio.run(main())
