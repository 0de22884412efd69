"""Row 22: the journal's disk is full. The job process waits, log lines give way, and nothing else is lost."""

import asyncio
import resource
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from runners.agent.journal import Identity, Journal
from runners.agent.kept import OnDisk
from runners.agent.outbox import Outbox
from runners.agent.stream import NumberedStream
from runners.agent.transport import Backoff
from visionmesh.v1 import progress_pb2, progress_pb2_grpc

MINE = Identity("jobs/j", 1, "progress")


class Progress(progress_pb2_grpc.ProgressServiceServicer):
    """Acknowledges when it may, and keeps what came."""

    def __init__(self) -> None:
        self.updates: list[progress_pb2.ProgressUpdate] = []
        self.may_acknowledge = asyncio.Event()

    async def ReportProgress(self, requests: Any, context: Any) -> None:  # noqa: N802
        await anext(aiter(requests))
        await context.write(progress_pb2.ReportProgressResponse(committed_number=len(self.updates)))
        async for request in requests:
            await self.may_acknowledge.wait()
            self.updates += request.updates[len(self.updates) + 1 - request.first_number :]
            await context.write(progress_pb2.ReportProgressResponse(committed_number=len(self.updates)))


def epoch(number: int, padding: int = 0) -> progress_pb2.ProgressUpdate:
    completed = progress_pb2.EpochCompleted(epoch=number, metrics={"x" * padding: 1.0} if padding else {})
    return progress_pb2.ProgressUpdate(epoch_completed=completed)


def request(first: int, updates: Sequence[progress_pb2.ProgressUpdate]) -> progress_pb2.ReportProgressRequest:
    return progress_pb2.ReportProgressRequest(first_number=first, updates=updates)


def stream(stub: Any, folder: Path, limit_bytes: int) -> tuple[Any, Journal]:
    journal = Journal(folder, MINE, segment_bytes=1 << 20)
    kept: OnDisk[progress_pb2.ProgressUpdate] = OnDisk(journal, progress_pb2.ProgressUpdate, 64 * 1024)
    opening = progress_pb2.ReportProgressRequest(job="jobs/j", attempt=1)
    made: Any = NumberedStream(
        "progress",
        stub.ReportProgress,
        opening,
        request,
        backoff=Backoff(0.01, 0.02),
        outbox=Outbox(kept=kept),
        limit_bytes=limit_bytes,
    )
    return made, journal


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: its writes fail with EFBIG, as a full disk's do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
async def served() -> Any:
    progress = Progress()
    server = grpc.aio.server()
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(progress, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield progress, progress_pb2_grpc.ProgressServiceStub(channel)
    await server.stop(None)


async def ended(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_full_disk_makes_the_sender_wait_and_loses_nothing(served: Any, tmp_path: Path) -> None:
    server, stub = served
    sender, journal = stream(stub, tmp_path / "j", 1 << 30)
    running = asyncio.create_task(sender.run())
    last = 2000

    async def put_all() -> None:
        for number in range(1, last + 1):
            await sender.put(epoch(number, padding=100))

    with files_end_at(64 * 1024):
        putting = asyncio.create_task(put_all())
        async with asyncio.timeout(30):
            while sender.pressure < 1:  # noqa: ASYNC110 - pressure tells nobody that it has risen
                await asyncio.sleep(0.01)
        waits_at = sender.last_number
        assert not putting.done()
        assert waits_at < last
        server.may_acknowledge.set()  # history gives way: there is room again, on the same disk
        async with asyncio.timeout(60):
            await putting
            await sender.delivered()
    print(f"the sender waited at message {waits_at} of {last}; delivered {len(server.updates)}")
    assert [u.epoch_completed.epoch for u in server.updates] == list(range(1, last + 1))
    await ended(running)
    journal.close()


async def test_what_was_on_the_full_disk_is_a_prefix(served: Any, tmp_path: Path) -> None:
    _, stub = served
    sender, journal = stream(stub, tmp_path / "j", 1 << 30)
    with files_end_at(64 * 1024):
        while sender.pressure < 1:
            sender.put_now(epoch(sender.last_number + 1, padding=100))
    journal.close()
    found = Journal(tmp_path / "j", MINE).recover()
    assert [record.number for record in found] == list(
        range(1, sender.last_number)
    )  # all but the refused one


async def test_memory_is_bounded_when_nobody_acknowledges(served: Any, tmp_path: Path) -> None:
    server, stub = served
    sender, journal = stream(stub, tmp_path / "j", 32 << 20)
    running = asyncio.create_task(sender.run())

    async def put_for_ever() -> None:
        while True:
            await sender.put(epoch(sender.last_number + 1, padding=8000))

    tracemalloc.start()
    try:
        putting = asyncio.create_task(put_for_ever())
        async with asyncio.timeout(60):
            while sender.pressure < 1:  # noqa: ASYNC110 - pressure tells nobody that it has risen
                await asyncio.sleep(0.01)
        held = sum(
            s.size
            for s in tracemalloc.take_snapshot().statistics("filename")
            if "runners" in s.traceback[0].filename
        )
    finally:
        tracemalloc.stop()
    on_disk = sum(file.stat().st_size for file in (tmp_path / "j").iterdir())
    print(f"{sender.last_number} messages, {on_disk / 1e6:.1f} MB on disk, {held / 1e6:.2f} MB in memory")
    assert on_disk > 32 << 20
    assert held < 8 << 20
    await ended(putting)
    await ended(running)
    server.may_acknowledge.set()
    journal.close()
