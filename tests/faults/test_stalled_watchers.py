"""Watchers that stop reading, beside one that reads and beside a thousand (rows 28 and 29)."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
import psutil
from crowd import Crowd, stalled_watches
from fault_mesh import DATASET, DEADLINE, Process, fault_mesh, followed, state
from runner_double import Numbered, RunnerDouble, ended, line, refusal

from visionmesh.client import AsyncClient
from visionmesh.errors import Reason
from visionmesh.v1 import job_pb2

STALLED = 20
BATCHES, LINES, LINE_BYTES = 50, 20, 8000
JOB = job_pb2.Job(train=job_pb2.TrainSpec(model="yolo11n", dataset=DATASET), framework="scripted")

CROWD, CLIENTS = 1000, 50
CROWD_LINES = 40
"""Lines that the crowd is told: more than a connection that nobody reads holds."""


def resident(process: Process) -> int:
    """Bytes of memory that a process has."""
    return int(psutil.Process(process.pid).memory_info().rss)


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
        async with followed(mesh, JOB) as first:
            _, progress = await runner.start()
            without = await acknowledgements(progress)
            await progress.send(ended())
            await first.end()
        async with followed(mesh, JOB) as reader:
            _, progress = await runner.start()
            calls = await stalled_watches(mesh.address, reader.job.name, stack, STALLED)
            before = resident(scheduler)
            await acknowledgements(progress)  # fills what the connections hold
            with_stalled = await acknowledgements(progress)
            await progress.send(ended())
            done = await reader.end()
            grown = resident(scheduler) - before
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


async def test_a_thousand_watchers_with_a_stalled_one_outlive_their_scheduler(tmp_path: Path) -> None:
    patience = {"stalled_watcher_seconds": 3}
    async with (
        fault_mesh(tmp_path, **patience) as (mesh, scheduler),
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):
        clients = [await stack.enter_async_context(AsyncClient(mesh.address)) for _ in range(CLIENTS)]
        runner = await stack.enter_async_context(RunnerDouble(mesh.address, "one", "scripted"))
        job = await mesh.client.create_job(JOB)
        _, progress = await runner.start()
        before = resident(scheduler)
        crowd, began = Crowd(group), time.monotonic()
        for number in range(CROWD - 1):
            crowd.join(clients[number % CLIENTS].job(job.name))
        (stalled,) = await stalled_watches(mesh.address, job.name, stack, 1)
        joined = (await crowd.until(1))[-1] - began
        with_crowd = resident(scheduler)

        began = time.monotonic()
        for _ in range(CROWD_LINES // 5):
            await progress.send(*(line("x" * LINE_BYTES) for _ in range(5)))
        last = (await job.get()).sequence
        told = (await crowd.until(last))[-1] - began
        grown = resident(scheduler) - with_crowd
        await asyncio.sleep(patience["stalled_watcher_seconds"] + 1)  # the others may have been faster
        reason, seen = await how_it_is_cut(stalled)
        crowd.join(clients[0].job(job.name), seen)  # it resumes, and catches up

        await scheduler.kill()
        scheduler = await mesh.scheduler(**patience)
        back = time.monotonic()
        again = RunnerDouble(mesh.address, "one", "scripted", attempts=[(job.name, 1)])
        runner = await stack.enter_async_context(again)
        progress = await runner.progress(job.name, 1)
        await progress.send(line("back"))
        resumed = await crowd.until(last + 1)
        await progress.send(ended())
        async with asyncio.timeout(DEADLINE):
            done = await job.wait()
            await crowd.until(done.sequence)
    print(f"{CROWD} watchers: {joined:.1f} s to join, {(with_crowd - before) / 1e6:.0f} MB")
    sent = CROWD * CROWD_LINES
    print(
        f"{sent} events of {LINE_BYTES} bytes in {told:.1f} s, {grown / 1e6:.0f} MB; one read {seen} of them"
    )
    half, tenth = resumed[CROWD // 2] - back, max(Counter(int(when * 10) for when in resumed).values())
    print(
        f"killed and started again: half are back after {half:.1f} s, all after {resumed[-1] - back:.1f} s, "
        f"at most {tenth} of them in a tenth of a second"
    )
    assert reason == Reason.SLOW_CONSUMER
    assert seen < last
    assert crowd.told == [done.sequence] * CROWD
    assert grown < sent * LINE_BYTES / 4
