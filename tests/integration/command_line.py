"""What a command line needs around it: a mesh, a runner that works, data, files in a folder."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result
from working_runner import WorkingRunner

from visionmesh.cli import app
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2

RUNNER = "ultralytics-1"


class CommandLine:
    """A mesh with a runner that works, a dataset, a job that has ended, and a folder with files."""

    def __init__(self, mesh: Any, runner: WorkingRunner, folder: Path) -> None:
        self.mesh, self.runner, self.folder = mesh, runner, folder

    async def prepare(self) -> str:
        """Bring back what an example before may have taken away; returns the id of a job that has ended."""
        await self.mesh.client.create_dataset(self.folder / "shapes", dataset_id="shapes")
        await self.mesh.client.undrain_runner(RUNNER)
        self.runner.pause.set()
        job = await self.mesh.client.create_job(a_train("ultralytics"))
        await job.wait(20)
        return job.name.removeprefix("jobs/")

    async def vmesh(self, *arguments: str) -> Result:
        environment = {"VISIONMESH_ADDRESS": self.mesh.address, "COLUMNS": "120"}
        return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)


def a_train(framework: str) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(model="yolo11n", dataset="datasets/shapes", epochs=3)
    return job_pb2.Job(train=spec, framework=framework)


@asynccontextmanager
async def at_a_command_line(mesh: Any, folder: Path) -> AsyncIterator[CommandLine]:
    """The files, and a runner that works on `mesh`."""
    write_shapes(folder / "shapes", train=4, val=2, test=2, size=32)
    shutil.make_archive(str(folder / "shapes"), "zip", folder / "shapes")
    shutil.copytree(folder / "shapes" / "images" / "test", folder / "photos")
    (folder / "best.pt").write_bytes(b"weights")
    async with mesh.runner("ultralytics", runner_id=RUNNER) as double:
        runner = WorkingRunner(double)
        working = asyncio.create_task(runner.work())
        yield CommandLine(mesh, runner, folder)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
