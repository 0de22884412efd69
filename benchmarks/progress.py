"""Durable progress events per second, beside a bare stream that stores nothing.

    python benchmarks/progress.py [--updates 20000] [--rounds 3] [--database sqlite postgresql]

A scheduler process, on a fresh SQLite file and then on a fresh PostgreSQL database, gives jobs to a
scripted runner; then small updates (batch progress and log lines) go over 1 and over 8
ReportProgress streams, sent by the agent's own stream code, until every one is acknowledged, which
means on disk. The bare stream is the same sender against a process that decodes each request,
acknowledges it, and does nothing else.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import structlog
from databases import add_option, mesh_on

from runners.agent.stream import NumberedStream
from visionmesh.cli.mesh import LocalMesh
from visionmesh.client import AsyncClient
from visionmesh.shapes import write_shapes
from visionmesh.v1 import (
    job_pb2,
    progress_pb2,
    progress_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
    vision_pb2,
)

STREAM_COUNTS = (1, 8)
RUNNER = "benchmark"


async def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    if arguments.bare:
        await serve_bare()
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    print(f"{arguments.updates} updates over all streams together, median of {arguments.rounds} rounds\n")
    print(f"{'':<12}{'streams':>7}  {'durable events/s':>16}  {'bare events/s':>13}  {'ratio':>5}")
    with tempfile.TemporaryDirectory(prefix="visionmesh-benchmark-") as folder:
        async with bare_server() as bare:
            for database in arguments.database:
                async with mesh_on(database, Path(folder)) as mesh:
                    await _compare(mesh, bare, Path(folder), database, arguments)


async def _compare(
    mesh: LocalMesh, bare: str, folder: Path, title: str, arguments: argparse.Namespace
) -> None:
    for streams in STREAM_COUNTS:
        durable = await mesh.run(_durable_rate(mesh, folder, streams, arguments))
        plain = await _bare_rate(bare, streams, arguments)
        ratio = durable / plain
        print(f"{title:<12}{streams:>7}  {durable:>16,.0f}  {plain:>13,.0f}  {ratio:>5.2f}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--updates", type=int, default=20_000, help="over all streams together")
    parser.add_argument("--rounds", type=int, default=3)
    add_option(parser)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


async def _durable_rate(mesh: LocalMesh, folder: Path, streams: int, arguments: argparse.Namespace) -> float:
    """Median of the rounds, in events per second."""
    rates = []
    for _ in range(arguments.rounds):
        async with AsyncClient(mesh.address) as client, attempts(client, folder, streams) as live:
            rates.append(await send(mesh.address, live, arguments.updates))
            await _check_stored(client, live, arguments.updates // streams)
    return statistics.median(rates)


async def _bare_rate(address: str, streams: int, arguments: argparse.Namespace) -> float:
    names = [f"jobs/bare-{number}" for number in range(streams)]
    rates = [await send(address, names, arguments.updates) for _ in range(arguments.rounds)]
    return statistics.median(rates)


async def send(address: str, jobs: Sequence[str], updates: int) -> float:
    """Send `updates` in equal parts as attempt 1 of each job; acknowledged updates per second."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        streams = [_stream(progress_pb2_grpc.ProgressServiceStub(channel), job) for job in jobs]
        for stream in streams:
            stream.put_now(_started())
            for number in range(1, updates // len(jobs)):
                stream.put_now(_update(number))
        begin = perf_counter()
        running = [asyncio.create_task(stream.run()) for stream in streams]
        delivered = [asyncio.create_task(stream.delivered()) for stream in streams]
        for task in delivered:
            await asyncio.wait([task, *running], return_when=asyncio.FIRST_COMPLETED)
        seconds = perf_counter() - begin
        for task in running:
            if task.done():
                task.result()  # says what ended the stream
            task.cancel()
        await asyncio.gather(*running, *delivered, return_exceptions=True)
        return updates / seconds


def _stream(stub: Any, job: str) -> NumberedStream[Any, Any]:
    return NumberedStream(
        job,
        lambda: stub.ReportProgress(),
        progress_pb2.ReportProgressRequest(job=job, attempt=1),
        lambda first, updates: progress_pb2.ReportProgressRequest(first_number=first, updates=updates),
    )


def _started() -> progress_pb2.ProgressUpdate:
    update = progress_pb2.ProgressUpdate(attempt_started=progress_pb2.AttemptStarted(pid=1, seed=7))
    update.event_time.GetCurrentTime()
    return update


def _update(number: int) -> progress_pb2.ProgressUpdate:
    """Batch progress and log lines in turn."""
    update = progress_pb2.ProgressUpdate()
    update.event_time.GetCurrentTime()
    if number % 2:
        line = f"epoch 3/50 batch {number}: box 1.204 cls 0.934 dfl 1.101, 24 instances, 640 px"
        update.log_line.level, update.log_line.message = progress_pb2.LOG_LEVEL_INFO, line
    else:
        batch = update.batch_progress
        batch.epoch, batch.batch, batch.total_batches = 3, number, 100_000
        batch.loss, batch.images_per_second = 1.234, 87.5
    return update


@asynccontextmanager
async def attempts(client: AsyncClient, folder: Path, count: int) -> AsyncIterator[list[str]]:
    """Names of `count` jobs whose attempt 1 a scripted runner holds; cancelled at the end."""
    dataset = await _dataset(client, folder)
    spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset, task=vision_pb2.TASK_DETECT)
    async with grpc.aio.insecure_channel(client.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = runner_pb2_grpc.RunnerServiceStub(channel).Connect()
        await call.write(runner_pb2.ConnectRequest(register=_register(count)))
        await call.read()
        wanted = [(await client.create_job(job_pb2.Job(train=spec))).name for _ in range(count)]
        for _ in wanted:
            await _accept(call)
        beating = asyncio.create_task(_beat(call, wanted))
        try:
            yield wanted
        finally:
            beating.cancel()
            for name in wanted:
                await client.job(name).cancel()
            call.cancel()


async def _dataset(client: AsyncClient, folder: Path) -> str:
    source, dataset = folder / "shapes", "datasets/shapes"
    if not source.exists():
        await asyncio.to_thread(write_shapes, source, train=2, val=1, test=0, size=32)
    if dataset not in [found.name async for found in client.list_datasets()]:
        await client.create_dataset(source, "shapes")
    return dataset


def _register(slots: int) -> runner_pb2.Register:
    kinds = ["train"]
    models = [runner_pb2.ModelInfo(name="yolo11n", tasks=[vision_pb2.TASK_DETECT])]
    manifest = runner_pb2.FrameworkManifest(
        framework="ultralytics", kinds=kinds, models=models, tasks=[vision_pb2.TASK_DETECT]
    )
    capacity = runner_pb2.RunnerCapacity(slots=slots, cpus=64)
    return runner_pb2.Register(
        runner_id=RUNNER, incarnation=f"{perf_counter():.9f}"[-12:], capacity=capacity, manifest=manifest
    )


async def _accept(call: Any) -> None:
    """Take the next assignment."""
    while not (response := await call.read()).HasField("assignment"):
        pass
    job, attempt = response.assignment.job.name, response.assignment.attempt
    reply = runner_pb2.AssignmentReply(job=job, attempt=attempt, accepted=True)
    await call.write(runner_pb2.ConnectRequest(assignment_reply=reply))


async def _beat(call: Any, jobs: Sequence[str]) -> None:
    held = [runner_pb2.AttemptRef(job=name, attempt=1) for name in jobs]
    while True:
        await call.write(runner_pb2.ConnectRequest(heartbeat=runner_pb2.Heartbeat(attempts=held)))
        await asyncio.sleep(5)


async def _check_stored(client: AsyncClient, jobs: Sequence[str], each: int) -> None:
    """What was acknowledged must be in the history, of an attempt that was never taken away."""
    for name in jobs:
        job = await client.job(name).get()
        assert (job.attempt, job.state) == (1, vision_pb2.JOB_STATE_RUNNING), job
        async with asyncio.timeout(30), aclosing(client.job(name).watch(after_sequence=each)) as events:
            # The scheduler's own events come on top, so the last update lies beyond `each`.
            assert (await anext(events)).sequence > each


async def _acknowledge(requests: AsyncIterator[progress_pb2.ReportProgressRequest], context: Any) -> None:
    """Answer each request as the scheduler does, and forget it."""
    async for request in requests:
        number = request.first_number + len(request.updates) - 1 if request.updates else 0
        await context.write(progress_pb2.ReportProgressResponse(committed_number=number))


async def serve_bare() -> None:
    """Serve until standard input ends; the port goes to standard output."""
    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(
        _acknowledge,
        progress_pb2.ReportProgressRequest.FromString,
        progress_pb2.ReportProgressResponse.SerializeToString,
    )
    service = "visionmesh.v1.ProgressService"
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"ReportProgress": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=None)


@asynccontextmanager
async def bare_server() -> AsyncIterator[str]:
    """A bare server in a process of its own; its address."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, __file__, "--bare")
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
