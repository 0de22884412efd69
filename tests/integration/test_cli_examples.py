"""Every command's --help has examples, and every example is run here as it is written."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import CommandLine, a_train
from typer.core import TyperGroup
from typer.testing import CliRunner

from visionmesh.cli import app

on_one_loop = pytest.mark.asyncio(loop_scope="module")

PLACEHOLDER = "train-7k3m9q2x"
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


@pytest.fixture(scope="module")
def mesh_settings() -> dict[str, object]:
    """With a media store, which nobody asks here: this runner fetches no images."""
    return {"bookmark_seconds": 0.2, "media_store_url": "http://127.0.0.1:9"}


def unfinished(example: str) -> bool:
    """Whether the example is about a job that has not ended."""
    return example.startswith("vmesh cancel")


@on_one_loop
@pytest.mark.parametrize("example", [example for example in EXAMPLES if "--watch" not in example])
async def test_example(command_line: CommandLine, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(command_line.folder)
    job = await command_line.prepare()
    if unfinished(example):
        waiting = await command_line.mesh.client.create_job(a_train("nobody_runs_this"))
        job = waiting.name.removeprefix("jobs/")
    ran = await command_line.vmesh(*shlex.split(example.replace(PLACEHOLDER, job))[1:])
    assert ran.exit_code == 0, ran.output


@on_one_loop
@pytest.mark.parametrize("example", [example for example in EXAMPLES if "--watch" in example])
async def test_example_that_stays(command_line: CommandLine, example: str) -> None:
    """It shows the job that runs, shows how that ends, and leaves at Ctrl-C."""
    await command_line.prepare()
    command_line.runner.pause.clear()
    job = await command_line.mesh.client.create_job(a_train("ultralytics"))
    await command_line.mesh.until_state(job.name, "RUNNING")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "visionmesh.cli", *shlex.split(example)[1:]),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "VISIONMESH_ADDRESS": command_line.mesh.address},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert (await process.stdout.readline()).decode().startswith(f"{job.name} train RUNNING")
        command_line.runner.pause.set()
        lines = [line async for line in until_gone(process.stdout, job.name)]
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert lines[-1] == f"{job.name} gone"


async def until_gone(lines: Any, name: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line.decode().rstrip()
        if line.decode().startswith(f"{name} gone"):
            return
