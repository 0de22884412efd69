"""The same refusals where people meet them: `vmesh` against a mesh, its exit code and its words.

Commands run in this process, in a thread with an event loop of its own; a few run as processes.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from refusal_world import World, archive, picture, train
from runner_double import ended
from typer.testing import CliRunner

from visionmesh.cli import _app
from visionmesh.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Command:
    """One command line, and how it must end."""

    line: Callable[[World], str]
    exit_code: int
    reason: str
    what: str
    instead: str


def refused(line: str, reason: Reason, what: str, instead: str) -> Command:
    """A command that is refused; {running} and the like are names of the world."""
    return Command(lambda world: line.format(**vars(world)), 2, reason, what, instead)


LIST = "List what there is, and check the spelling"
GONE = (Reason.NOT_FOUND, "There is no job 'jobs/absent'", LIST)
ON = "train --model yolo11n --dataset {dataset} --detach"

COMMANDS = {
    "watch of an absent job": refused("watch absent", *GONE),
    "logs of an absent job": refused("logs absent", *GONE),
    "cancel of an absent job": refused("cancel absent", *GONE),
    "retry of an absent job": refused("retry absent --detach", *GONE),
    "explain of an absent job": refused("explain absent", *GONE),
    "result of an absent job": refused("result absent", *GONE),
    "audit of an absent job": refused("audit absent", *GONE),
    "delete of an absent job": refused("delete absent", *GONE),
    "json of an absent job": refused("result absent -o json", *GONE),
    "cancel of a finished job": refused(
        "cancel {finished}", Reason.JOB_ALREADY_ENDED, "SUCCEEDED already", "To run it again, retry it"
    ),
    "retry of a running job": refused(
        "retry {running} --detach", Reason.JOB_NOT_ENDED, "has not ended", "Cancel it first"
    ),
    "delete of a running job": refused(
        "delete {running}", Reason.JOB_NOT_ENDED, "is RUNNING", "Cancel it first"
    ),
    "drain of an absent runner": refused(
        "drain absent", Reason.NOT_FOUND, "There is no runner 'runners/absent'", LIST
    ),
    "undrain of an absent runner": refused(
        "undrain absent", Reason.NOT_FOUND, "There is no runner 'runners/absent'", LIST
    ),
    "show of an absent dataset": refused(
        "datasets show absent", Reason.NOT_FOUND, "There is no dataset 'datasets/absent'", LIST
    ),
    "delete of an absent dataset": refused(
        "datasets delete absent", Reason.NOT_FOUND, "There is no dataset 'datasets/absent'", LIST
    ),
    "delete of a dataset in use": refused(
        "datasets delete {dataset}",
        Reason.DATASET_IN_USE, "is used by jobs/", "Cancel that job, or wait for it",
    ),
    "list by an unknown field": refused(
        "jobs --filter colour=red", Reason.BAD_FILTER, "no field 'colour'", "labels."
    ),
    "list in an unknown order": refused(
        "jobs --order-by colour", Reason.BAD_FILTER, "colour", "create_time, update_time"
    ),
    "training of an unknown model": refused(
        "train --model yolo11nn --dataset {dataset} --detach",
        Reason.UNKNOWN_MODEL, "no model 'yolo11nn'", "Did you mean 'yolo11n'",
    ),
    "training on an absent dataset": refused(
        "train --model yolo11n --dataset datasets/nowhere --detach",
        Reason.DATASET_NOT_FOUND, "'datasets/nowhere'", "The newest are datasets/",
    ),
    "training on images without labels": refused(
        "train --model yolo11n --dataset {unlabelled} --detach",
        Reason.DATASET_UNLABELLED, "no labelled object", "Add labels to that split",
    ),
    "training of too many epochs": refused(
        f"{ON} --epochs 99999999", Reason.INVALID_ARGUMENT, "got 99999999", "must be between 1 and"
    ),
    "training at an unknown device": refused(
        f"{ON} --device gpu0", Reason.INVALID_ARGUMENT, "got 'gpu0'", 'such as "cuda:0,1"'
    ),
    "dry run of an unknown model": refused(
        "train --model yolo11nn --dataset {dataset} --dry-run",
        Reason.UNKNOWN_MODEL, "no model 'yolo11nn'", "Did you mean 'yolo11n'",
    ),
    "validation of an absent checkpoint": refused(
        "validate --checkpoint jobs/absent/artifacts/best --dataset {dataset} --detach",
        Reason.CHECKPOINT_NOT_FOUND, "no job 'jobs/absent'", LIST,
    ),
    "inference with a file of the scheduler's machine": refused(
        "infer --checkpoint file:///etc/passwd --images {dataset} --detach",
        Reason.BAD_URI, "'file:///etc/passwd'", "Upload the file",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def plain_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISIONMESH_ADDRESS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


async def vmesh(address: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    environment = {"VISIONMESH_ADDRESS": address}
    result = await asyncio.to_thread(CliRunner().invoke, _app.app, arguments, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
async def test_refused(world: World, command: Command) -> None:
    code, said, complained = await vmesh(world.mesh.address, *command.line(world).split())
    assert code == command.exit_code, complained
    assert command.what in complained
    assert command.instead in complained
    assert command.reason in complained
    assert "Traceback" not in complained
    assert said == "", "data goes to standard output, and there is none"


BROKEN = {
    "a label that is wrong": (
        {"labels/train/0.txt": "7 .5 .5 .1 .1"},
        "labels/train/0.txt:1",
        "class 7 does not exist",
    ),
    "text named like an image": (
        {"images/train/t.jpg": "text"},
        "images/train/t.jpg",
        "save it as one of JPEG",
    ),
    "an image that moves": (
        {"images/train/t.gif": picture("GIF")},
        "images/train/t.gif",
        ".gif is not trained on",
    ),
}


@pytest.mark.parametrize(("files", "where", "what"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_dataset_is_told_by_file(
    world: World, tmp_path: Path, files: dict[str, str | bytes], where: str, what: str
) -> None:
    packed = tmp_path / "set.zip"
    sound: dict[str, str | bytes] = {
        "data.yaml": "names: [a]", "images/train/0.jpg": picture(), "labels/train/0.txt": ""
    }  # fmt: skip
    packed.write_bytes(archive(sound | files))
    code, _said, complained = await vmesh(world.mesh.address, "datasets", "create", str(packed))
    assert code == 2
    assert where in complained
    assert what in complained
    assert Reason.DATASET_INVALID in complained


def process(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same as a process of its own."""
    command = [sys.executable, "-m", "visionmesh.cli", *arguments]
    environment = {**os.environ, "VISIONMESH_ADDRESS": address, "COLUMNS": "120"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


async def test_a_process_ends_with_2_when_it_is_refused(world: World) -> None:
    done = await asyncio.to_thread(process, world.mesh.address, "cancel", "absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no job 'jobs/absent'" in done.stderr
    assert "NOT_FOUND" in done.stderr


async def test_a_process_ends_with_4_where_no_mesh_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = await asyncio.to_thread(process, f"127.0.0.1:{port}", "jobs")
    assert (done.returncode, done.stdout) == (4, "")
    assert f"127.0.0.1:{port}" in done.stderr
    assert "vmesh up" in done.stderr
    assert "UNAVAILABLE" in done.stderr


async def test_a_wait_that_takes_too_long_ends_with_5(world: World) -> None:
    async with world.mesh.runner("deaf") as runner:
        wanted = train(world.dataset)
        wanted.framework = "deaf"
        made = await world.mesh.create(wanted)
        _assignment, stream = await runner.start()
        code, _said, complained = await vmesh(
            world.mesh.address, "cancel", made.name, "--wait", "--timeout", "0.3s"
        )
        assert code == 5, complained
        await stream.send(ended("CANCELLED", "CANCELLED"))
