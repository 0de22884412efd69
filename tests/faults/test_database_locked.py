"""Row 8: another program holds the SQLite file for longer than a lease. All wait, and nothing is lost."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from fault_mesh import DEADLINE, FaultMesh, fault_mesh, followed, state, training

from visionmesh.client import AsyncClient
from visionmesh.v1 import progress_pb2, progress_pb2_grpc

LEASE = 3.0
HELD = 8.0
"""Longer than a writer waits for SQLite's lock, and than the lease."""

HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[None]:
    """The database is another process's."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin
    assert holder.stdout
    try:
        async with asyncio.timeout(DEADLINE):
            assert await holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        await holder.wait()


async def watched_without_a_cut(mesh: FaultMesh, job: str) -> list[int]:
    """Sequences of one single call of WatchProgress, to the job's end. Raises what the call ends with."""
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        stub = progress_pb2_grpc.ProgressServiceStub(channel)
        call = stub.WatchProgress(progress_pb2.WatchProgressRequest(job=job))
        return [response.event.sequence async for response in call if response.HasField("event")]


async def test_a_locked_database_makes_everybody_wait(tmp_path: Path) -> None:
    settings = {"lease_seconds": LEASE, "heartbeat_seconds": 0.3}
    async with fault_mesh(tmp_path, **settings) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=500, epoch_ms=20, checkpoint_period=100)) as job:
            watching = asyncio.create_task(watched_without_a_cut(mesh, job.job.name))
            await job.sees_epoch(50)
            async with held(tmp_path / "data" / "visionmesh.db"), AsyncClient(mesh.address) as reader:
                began = time.monotonic()
                creating = asyncio.create_task(mesh.client.create_job(training(epochs=1)))
                reads = 0
                while time.monotonic() < began + HELD:
                    assert [other.name async for other in reader.list_jobs()] == [job.job.name]
                    reads += 1
                    await asyncio.sleep(0.1)
                assert not creating.done()
            freed, known = time.monotonic(), len(job.events)
            await job.sees(lambda event: event.sequence > known)
            next_event = job.times[known] - freed
            late = await creating
            created = time.monotonic() - freed
            ended = await job.end()
            sequences = await watching
        assert state(await late.wait(DEADLINE)) == "SUCCEEDED"
        print(
            f"held for {freed - began:.1f} s with a lease of {LEASE:.0f} s: {reads} reads meanwhile; "
            f"the next event {next_event:.2f} s afterwards, the job that waited after {created:.2f} s"
        )
        assert "not serving" not in scheduler.log_text()
        assert "attempt dropped" not in agent.log_text()
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, 501))}
    assert sequences == [event.sequence for event in job.events]
