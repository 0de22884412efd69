"""Watchers that stop reading, beside one that reads (row 28, in small)."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
import psutil
from fault_mesh import DATASET, DEADLINE, FaultMesh, fault_mesh, followed, state
from runner_double import Numbered, RunnerDouble, ended, line, refusal

from visionmesh.errors import Reason
from visionmesh.v1 import job_pb2, progress_pb2, progress_pb2_grpc

STALLED = 20
BATCHES, LINES, LINE_BYTES = 50, 20, 8000


async def stalled_watches(mesh: FaultMesh, job: str, stack: AsyncExitStack) -> list[Any]:
    """Watches that have read one message, and read no more."""
    calls = []
    for _ in range(STALLED):
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address, options=options))
        stub: Any = progress_pb2_grpc.ProgressServiceStub(channel)
        calls.append(stub.WatchProgress(progress_pb2.WatchProgressRequest(job=job)))
        await calls[-1].read()
    return calls


async def acknowledgements(progress: Numbered) -> list[float]:
    """Report a lot; milliseconds to each acknowledgement."""
    told = []
    for _ in range(BATCHES):
        began = time.monotonic()
        await progress.send(*(line("x" * LINE_BYTES) for _ in range(LINES)))
        told.append((time.monotonic() - began) * 1000)
    return told


async def how_it_is_cut(call: Any) -> tuple[str, int]:
    """(reason, last sequence) of a watch that is read again."""
    last = 1
    try:
        async with asyncio.timeout(DEADLINE):
            while (response := await call.read()) is not grpc.aio.EOF:
                last = response.event.sequence or last
    except grpc.aio.AioRpcError as error:
        return refusal(error).reason, last
    raise AssertionError("it was not cut")


async def test_stalled_watchers_cost_little_and_delay_nobody(tmp_path: Path) -> None:
    async with (
        fault_mesh(tmp_path, stalled_watcher_seconds=0.2) as (mesh, scheduler),
        AsyncExitStack() as stack,
    ):
        runner = await stack.enter_async_context(RunnerDouble(mesh.address, "one", "scripted"))
        job = job_pb2.Job(train=job_pb2.TrainSpec(model="yolo11n", dataset=DATASET), framework="scripted")
        async with followed(mesh, job) as first:
            _, progress = await runner.start()
            without = await acknowledgements(progress)
            await progress.send(ended())
            await first.end()
        async with followed(mesh, job) as reader:
            _, progress = await runner.start()
            calls = await stalled_watches(mesh, reader.job.name, stack)
            before = psutil.Process(scheduler.pid).memory_info().rss
            await acknowledgements(progress)  # fills what the connections hold
            with_stalled = await acknowledgements(progress)
            await progress.send(ended())
            done = await reader.end()
            grown = psutil.Process(scheduler.pid).memory_info().rss - before
            cut = await asyncio.gather(*map(how_it_is_cut, calls))
            rest = [event.sequence async for event in mesh.client.job(reader.job.name).watch(cut[0][1])]
    alone, beside = (
        f"p50 {median(times):.0f}, p99 {quantiles(times, n=100)[-1]:.0f} ms"
        for times in (without, with_stalled)
    )
    held = 2 * BATCHES * LINES * LINE_BYTES / 1e6
    print(f"{LINES} lines acknowledged: {alone} alone, {beside} beside {STALLED} stalled watchers")
    print(f"the scheduler grew by {grown / 1e6:.0f} MB, {STALLED} watches of {held:.0f} MB each are stalled")
    assert state(done) == "SUCCEEDED"
    assert {reason for reason, _ in cut} == {Reason.SLOW_CONSUMER}
    assert rest == list(range(cut[0][1] + 1, done.sequence + 1))
    assert grown < STALLED * held * 1e6 / 4
