"""What watchers of a job cost its runner, and how many events a second reach them.

    python benchmarks/watchers.py [--watchers 999] [--updates 30] [--interval 0.2] [--burst 50]

A scripted runner reports one update every `interval` seconds to a real scheduler on SQLite, and
measures how long each takes to be acknowledged: with nobody watching, with healthy watchers over
50 connections in a process of their own, and with one more that stalls. Then a burst of updates is
reported at once, and the clock stops when the last watcher has the last one.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import psutil
import structlog

sys.path += [str(Path(__file__).parents[1] / "tests" / folder) for folder in ("integration", "faults")]

from crowd import Crowd, stalled_watches
from databases import mesh_on
from progress import attempts
from runner_double import Numbered, line

from visionmesh.cli.mesh import LocalMesh
from visionmesh.client import AsyncClient
from visionmesh.v1 import progress_pb2, progress_pb2_grpc

HEAD = f"{'watchers':<12}{'ack p50 ms':>11}{'p99':>7}{'ratio':>7}{'burst events/s':>16}{'told/s':>9}{'MB':>6}"
CONNECTIONS = 50
LINE_BYTES = 200
STALLING_LINES, STALLING_LINE_BYTES = 40, 8000
"""More than a connection holds that nobody reads."""


@dataclass(frozen=True)
class Measured:
    """What a run with some watchers came to."""

    title: str
    p50: float
    """Milliseconds to an acknowledgement."""

    p99: float
    burst_rate: float
    """Acknowledged updates per second."""

    told_rate: float
    """Updates that reached a watcher, per second, over all watchers."""

    resident_bytes: int
    """Memory of the scheduler."""

    def row(self, alone: float) -> str:
        """A line of the table; `alone` is the p99 without watchers."""
        return (
            f"{self.title:<12}{self.p50:>11,.0f}{self.p99:>7,.0f}{self.p99 / alone:>7.1f}"
            f"{self.burst_rate:>16,.0f}{self.told_rate:>9,.0f}{self.resident_bytes / 1e6:>6,.0f}"
        )


async def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if arguments.crowd:
        await _be_the_crowd(*arguments.crowd)
        return
    print(f"{arguments.updates} updates, one every {arguments.interval} s; then {arguments.burst} at once\n")
    print(HEAD)
    with tempfile.TemporaryDirectory(prefix="visionmesh-benchmark-") as folder:
        async with mesh_on("sqlite", Path(folder)) as mesh:
            alone = 0.0
            for healthy, stalled in ((0, 0), (arguments.watchers, 0), (arguments.watchers, 1)):
                measured = await mesh.run(_measure(mesh, Path(folder), healthy, stalled, arguments))
                alone = alone or measured.p99
                print(measured.row(alone), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--watchers", type=int, default=999, help="healthy ones")
    parser.add_argument("--updates", type=int, default=30, help="for the latency")
    parser.add_argument("--interval", type=float, default=0.2, help="seconds from one to the next")
    parser.add_argument("--burst", type=int, default=50, help="updates for the throughput")
    parser.add_argument("--crowd", nargs=3, metavar=("ADDRESS", "JOB", "COUNT"), help=argparse.SUPPRESS)
    return parser.parse_args()


async def _measure(
    mesh: LocalMesh, folder: Path, healthy: int, stalled: int, arguments: argparse.Namespace
) -> Measured:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(mesh.address))
        (job,) = await stack.enter_async_context(attempts(client, folder, 1))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address))
        stub: Any = progress_pb2_grpc.ProgressServiceStub(channel)
        progress = Numbered(stub.ReportProgress, progress_pb2.ReportProgressRequest, "updates", job, 1)
        await progress.open()
        crowd = await stack.enter_async_context(_crowd(mesh.address, job, healthy))
        await crowd.until(1)
        if stalled:
            await stalled_watches(mesh.address, job, stack, stalled)
            await progress.send(*[line("x" * STALLING_LINE_BYTES)] * STALLING_LINES)
            await crowd.until((await client.job(job).get()).sequence)

        waits = []
        for _ in range(arguments.updates):
            began = perf_counter()
            await progress.send(line("x" * LINE_BYTES))
            waits.append((perf_counter() - began) * 1000)
            await asyncio.sleep(arguments.interval)

        began = perf_counter()
        for _ in range(arguments.burst // 5):
            await progress.send(*[line("x" * LINE_BYTES)] * 5)
        acknowledged = perf_counter() - began
        await crowd.until((await client.job(job).get()).sequence)
        told = perf_counter() - began
        cuts = statistics.quantiles(waits, n=100, method="inclusive")
        resident = psutil.Process(mesh.processes[0].pid).memory_info().rss
    title = f"{healthy} + {stalled}" if stalled else str(healthy)
    rates = arguments.burst / acknowledged, arguments.burst * healthy / told
    return Measured(title, cuts[49], cuts[98], *rates, resident)


class _CrowdProcess:
    """Watchers in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def until(self, sequence: int) -> None:
        """Wait until everybody there was told `sequence`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{sequence}\n".encode())
        await self._process.stdout.readline()


@asynccontextmanager
async def _crowd(address: str, job: str, size: int) -> AsyncIterator[_CrowdProcess]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, __file__, "--crowd", address, job, str(size))
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield _CrowdProcess(process)
    finally:
        process.kill()
        await process.wait()


async def _be_the_crowd(address: str, job: str, size: str) -> None:
    """Watch; for each sequence on standard input, say when everybody was told it."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        clients = [await stack.enter_async_context(AsyncClient(address)) for _ in range(CONNECTIONS)]
        crowd = Crowd(group)
        for number in range(int(size)):
            crowd.join(clients[number % CONNECTIONS].job(job))
        while asked := await asyncio.to_thread(sys.stdin.readline):
            if crowd.told:
                await crowd.until(int(asked))
            print("there", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
