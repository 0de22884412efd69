"""Every command's --help has examples, and every example is run here as it is written."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import typer
from conftest import Mesh, running
from typer.core import TyperGroup
from typer.testing import CliRunner, Result
from working_runner import WorkingRunner

from visionmesh.cli import app
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2

on_one_loop = pytest.mark.asyncio(loop_scope="module")

PLACEHOLDER = "train-7k3m9q2x"
RUNNER = "ultralytics-1"
TESTED_ELSEWHERE = {"vmesh up": "test_up_examples.py", "vmesh demo": "test_demo.py"}
"""Commands that start a mesh of their own, and the acceptance tests that run their examples."""


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command below `command` that does something itself."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from leaves(below, f"{path} {name}")
    else:
        yield path, command


COMMANDS = dict(leaves(typer.main.get_command(app), "vmesh"))


def examples_of(path: str) -> list[str]:
    lines = (COMMANDS[path].epilog or "").splitlines()
    return [line for line in lines if line.startswith("vmesh ")]


EXAMPLES = [example for path in COMMANDS if path not in TESTED_ELSEWHERE for example in examples_of(path)]


@pytest.mark.parametrize("path", COMMANDS)
def test_help_shows_an_example_that_a_test_runs(path: str) -> None:
    ran = CliRunner().invoke(app, [*path.split()[1:], "--help"], env={"COLUMNS": "200"})
    assert ran.exit_code == 0
    examples = examples_of(path)
    assert examples
    assert all(example in ran.stdout for example in examples)
    assert all(example == path or example.startswith(f"{path} ") for example in examples)
    if path in TESTED_ELSEWHERE:
        test = Path(__file__).parents[1] / "acceptance" / TESTED_ELSEWHERE[path]
        assert all(f'"{example}"' in test.read_text() for example in examples), test


class World:
    """A mesh with a runner that works, a dataset, a job that has ended, and a folder with files."""

    def __init__(self, mesh: Mesh, runner: WorkingRunner, folder: Path) -> None:
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("examples")
    write_shapes(folder / "shapes", train=4, val=2, test=2, size=32)
    shutil.make_archive(str(folder / "shapes"), "zip", folder / "shapes")
    shutil.copytree(folder / "shapes" / "images" / "test", folder / "photos")
    (folder / "best.pt").write_bytes(b"weights")
    async with running(folder / "data") as mesh, mesh.runner("ultralytics", runner_id=RUNNER) as double:
        runner = WorkingRunner(double)
        working = asyncio.create_task(runner.work())
        yield World(mesh, runner, folder)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def unfinished(example: str) -> bool:
    """Whether the example is about a job that has not ended."""
    return example.startswith("vmesh cancel")


@on_one_loop
@pytest.mark.parametrize("example", [example for example in EXAMPLES if "--watch" not in example])
async def test_example(world: World, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    job = await world.prepare()
    if unfinished(example):
        waiting = await world.mesh.client.create_job(a_train("nobody_runs_this"))
        job = waiting.name.removeprefix("jobs/")
    ran = await world.vmesh(*shlex.split(example.replace(PLACEHOLDER, job))[1:])
    assert ran.exit_code == 0, ran.output


@on_one_loop
@pytest.mark.parametrize("example", [example for example in EXAMPLES if "--watch" in example])
async def test_example_that_stays(world: World, example: str) -> None:
    """It shows the job that runs, shows how that ends, and leaves at Ctrl-C."""
    await world.prepare()
    world.runner.pause.clear()
    job = await world.mesh.client.create_job(a_train("ultralytics"))
    await world.mesh.until_state(job.name, "RUNNING")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "visionmesh.cli", *shlex.split(example)[1:]),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "VISIONMESH_ADDRESS": world.mesh.address},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert (await process.stdout.readline()).decode().startswith(f"{job.name} train RUNNING")
        world.runner.pause.set()
        lines = [line async for line in until_gone(process.stdout, job.name)]
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert lines[-1] == f"{job.name} gone"


async def until_gone(lines: Any, name: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line.decode().rstrip()
        if line.decode().startswith(f"{name} gone"):
            return
