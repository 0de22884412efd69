"""How long a job takes from CreateJob to the first event of its job process.

    python benchmarks/dispatch.py [--jobs 10] [--database sqlite postgresql]

A real scheduler, on SQLite and then on PostgreSQL, and a real agent with the ultralytics framework
run small inference jobs, one after another, so that no job waits for a place: with the zygote, which
forks job processes, and on SQLite also with `--no-zygote`, where each starts an interpreter and
imports the framework. Measured by this machine's clock, from the moment in which CreateJob has returned:

assigned  until the scheduler has stored the runner's first word about the attempt, that it fetches
          the inputs: an upper bound of the acknowledgement, which goes another way at the same time
started   until the scheduler has stored attempt_started, the first event of the job process
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from databases import add_option, mesh_on

from visionmesh.cli.mesh import LocalMesh, LocalProcess
from visionmesh.client import AsyncClient, AsyncJobHandle
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2, vision_pb2

AGENT_GRACE = 6.0
WAYS = {
    "sqlite": {"zygote": "--zygote", "no zygote": "--no-zygote"},
    "postgresql": {"zygote": "--zygote"},  # the database does not start processes
}
SETTLE_JOBS = 2
"""Jobs that run to their end before the measurement: caches fill, a zygote gets ready."""


@dataclass(frozen=True)
class Dispatch:
    """One job's way to its process, in seconds after CreateJob returned."""

    assigned: float
    started: float


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10, help="measured jobs per way of starting")
    add_option(parser)
    arguments = parser.parse_args()
    jobs = arguments.jobs
    print(f"{jobs} inference jobs on one image each, milliseconds after CreateJob returned\n")
    print(f"{'':<24}{'assigned p50':>13}{'p99':>8}{'started p50':>14}{'p99':>8}")
    with tempfile.TemporaryDirectory(prefix="visionmesh-benchmark-") as folder:
        for database in arguments.database:
            async with mesh_on(database, Path(folder)) as mesh:
                for title, flag in WAYS[database].items():
                    found = await _with_agent(mesh, Path(folder) / database, flag, jobs)
                    print(f"{database:<12}{title:<12}{_row([one.assigned for one in found], 13)}", end="")
                    print(_row([one.started for one in found], 14), flush=True)


def _row(seconds: Sequence[float], width: int) -> str:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{cuts[49] * 1000:>{width},.0f}{cuts[98] * 1000:>8,.0f}"


async def _with_agent(mesh: LocalMesh, folder: Path, flag: str, jobs: int) -> list[Dispatch]:
    """Measure with an agent that was started with `flag`."""
    work_dir = folder / f"agent{flag}"
    work_dir.mkdir()
    arguments = ["runners.agent", "--scheduler", mesh.address, "--framework", "ultralytics", flag]
    arguments += ["--runner-id", f"benchmark{flag}", "--work-dir", str(work_dir)]
    agent = await LocalProcess.start("agent", arguments, work_dir / "agent.log")
    mesh.processes.append(agent)  # so that its death ends the measurement, with the end of its log
    try:
        return await mesh.run(_measure(mesh.address, folder, jobs))
    finally:
        mesh.processes.remove(agent)
        await agent.stop(AGENT_GRACE)


async def _measure(address: str, folder: Path, jobs: int) -> list[Dispatch]:
    async with AsyncClient(address) as client:
        job = await _inference(client, folder)
        for _ in range(SETTLE_JOBS):
            await _run_whole(client, job)
        return [await _dispatch(client, job) for _ in range(jobs)]


async def _dispatch(client: AsyncClient, job: job_pb2.Job) -> Dispatch:
    """Start one job, and stop it when its process has spoken: what it computes is not measured."""
    handle = await client.create_job(job)
    created = time.time()
    assigned = started = None
    async with aclosing(handle.watch()) as events:
        async for event in events:
            at = event.commit_time.ToNanoseconds() / 1e9 - created
            if assigned is None and event.update.HasField("stage_changed"):
                assigned = at
            if started is None and event.update.HasField("attempt_started"):
                started = at
                await handle.cancel(grace=timedelta(0))
    assert assigned is not None
    assert started is not None
    return Dispatch(assigned, started)


async def _run_whole(client: AsyncClient, job: job_pb2.Job) -> AsyncJobHandle:
    """Run a job to its end, which must be a good one."""
    handle = await client.create_job(job)
    job = await handle.wait()
    if job.state != vision_pb2.JOB_STATE_SUCCEEDED:
        sys.exit(f"{handle.name} ended as {vision_pb2.JobState.Name(job.state)}: {job.error.message}")
    return handle


async def _inference(client: AsyncClient, folder: Path) -> job_pb2.Job:
    """A job that predicts one image with a model that was trained for one epoch."""
    shapes = folder / "shapes"
    if not shapes.exists():
        await asyncio.to_thread(write_shapes, shapes, train=4, val=2, test=1, size=32)
        await client.create_dataset(shapes, "shapes")
    dataset = "datasets/shapes"
    checkpoint = f"{await _trained(client, dataset)}/artifacts/best"
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset, split="test"))
    return job_pb2.Job(
        infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images, image_size=32, device="cpu")
    )


async def _trained(client: AsyncClient, dataset: str) -> str:
    """The name of a training that has succeeded; the first caller waits for it."""
    async for job in client.list_jobs():
        if job.HasField("train"):
            return job.name
    training = job_pb2.TrainSpec(
        model="yolov8n", dataset=dataset, epochs=1, batch_size=4, image_size=32, device="cpu"
    )
    return (await _run_whole(client, job_pb2.Job(train=training))).name


if __name__ == "__main__":
    asyncio.run(main())
