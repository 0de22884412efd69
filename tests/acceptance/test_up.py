"""`vmesh up` in a real terminal: what it shows works, and it leaves nothing behind however it ends."""

import asyncio
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pexpect
import psutil
import pytest
from alembic.script import ScriptDirectory

import scheduler
from scheduler.store.migrate import MIGRATIONS
from visionmesh.client import AsyncClient
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2, vision_pb2

HEAD = str(ScriptDirectory(str(MIGRATIONS)).get_current_head())
START = 90.0  # seconds: importing a framework on a loaded machine takes a while
JOB = 120.0
GONE = 10.0  # seconds for processes that were killed to be gone; an idle mesh stops in less than two


class Up:
    """`vmesh up` in a terminal of its own."""

    def __init__(self, data_dir: Path, *flags: str, environment: dict[str, str] | None = None) -> None:
        self.terminal = pexpect.spawn(
            sys.executable,
            ["-m", "visionmesh.cli", "up", "--port", "0", "--data-dir", str(data_dir), *flags],
            dimensions=(40, 80),
            encoding="utf-8",
            timeout=START,
            env={**os.environ, "TERM": "xterm-256color"} | (environment or {}),
        )

    def screen(self) -> str:
        """What it shows when it is up."""
        self.terminal.expect("Ctrl-C stops the mesh")
        return plain(str(self.terminal.before))

    def address(self) -> str:
        found = re.search(r"127\.0\.0\.1:\d+", self.screen())
        assert found is not None
        return found[0]

    def family(self) -> list[psutil.Process]:
        """Every process that it has started, and those below."""
        return psutil.Process(self.terminal.pid).children(recursive=True)

    def end(self) -> tuple[str, int | None]:
        """What it says until it ends, and its exit code."""
        self.terminal.expect(pexpect.EOF)
        self.terminal.close()
        return plain(str(self.terminal.before)), self.terminal.exitstatus


def plain(text: str) -> str:
    """Without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def left_of(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after a while; a zombie waits only for an init that takes its time."""
    _, alive = psutil.wait_procs([process for process in family if not is_zombie(process)], GONE)
    return [process for process in alive if not is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def start_training(address: str, folder: Path) -> str:
    """A job that has a process and would run for an hour; its name."""
    write_shapes(folder / "small", train=16, val=8, test=0, size=64)
    async with asyncio.timeout(JOB), AsyncClient(address) as client:
        dataset = await client.create_dataset(folder / "small", "small")
        spec = job_pb2.TrainSpec(
            model="yolov8n", dataset=dataset.name, epochs=5000, image_size=64, batch_size=8, device="cpu"
        )
        spec.hyperparameters["workers"] = 1  # a process below the job's process
        job = await client.create_job(job_pb2.Job(train=spec))
        async for event in job.watch():
            if event.update.HasField("batch_progress"):
                return job.name
    raise AssertionError("the job ended")


async def state_of(address: str, name: str) -> "vision_pb2.JobState.ValueType":
    async with AsyncClient(address) as client:
        return (await client.job(name).get()).state


def lines_of(screen: str) -> str:
    return screen.partition("Try it in another terminal:")[2]


@pytest.mark.timeout(START + 4 * JOB)
def test_the_lines_on_the_screen_work_as_they_are(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    screen = up.screen()
    assert re.search(r"address +127\.0\.0\.1:\d+", screen)
    assert re.search(rf"data +{re.escape(str(tmp_path / 'data'))}", screen.replace("\n", ""))
    assert re.search(r"machine +\d+ CPU cores?, \d+ GiB memory, ", screen)
    assert re.search(r"runner +ultralytics-1 \(ultralytics 8\.", screen)
    web = re.search(r"web +(http://127\.0\.0\.1:\d+)/docs", screen)
    assert web is not None, screen
    with urllib.request.urlopen(f"{web[1]}/readyz") as ready:  # noqa: S310 - it is ours
        assert ready.status == 200
    clean = {"HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
    pasted = subprocess.run(
        ["bash", "-euxo", "pipefail"],
        input=lines_of(screen),
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=3 * JOB,
        check=False,
    )
    assert pasted.returncode == 0, pasted.stdout + pasted.stderr
    learned = re.search(r"SUCCEEDED +epoch 10/10 mAP50 (\d\.\d+)", pasted.stdout)
    assert learned is not None, pasted.stdout
    assert float(learned[1]) > 0.5, "somebody's first training should be one that learns"
    up.terminal.sendintr()
    said, code = up.end()
    assert code == 0, said


@pytest.mark.timeout(2 * START + JOB)
def test_ctrl_c_stops_everything_and_the_same_folder_goes_on(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    address = up.address()
    job = asyncio.run(start_training(address, tmp_path))
    family = up.family()
    assert len(family) >= 6, "scheduler, gateway, agent, zygote, guardian, job process"
    begin = time.monotonic()
    up.terminal.sendintr()
    said, code = up.end()
    print(f"stopped with a running job in {time.monotonic() - begin:.2f} s")
    assert code == 0
    assert str(tmp_path / "data") in said.replace("\n", "")
    assert f"Go on with: vmesh up --data-dir {tmp_path / 'data'} --port 0" in said.replace("\n", "")
    assert left_of(family) == []

    again = Up(tmp_path / "data")
    assert asyncio.run(state_of(again.address(), job)) in {
        vision_pb2.JOB_STATE_PENDING,
        vision_pb2.JOB_STATE_QUEUED,
        vision_pb2.JOB_STATE_RUNNING,
    }, "the job is known, and goes on"
    family = again.family()
    again.terminal.kill(signal.SIGTERM)
    said, code = again.end()
    assert code == 0, said
    assert left_of(family) == []


@pytest.mark.timeout(START + JOB)
def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    up.screen()
    family = up.family()
    agent = next(process for process in family if "runners.agent" in process.cmdline())
    agent.suspend()  # it cannot say goodbye: the first Ctrl-C would wait for it
    up.terminal.sendintr()
    up.terminal.expect("Ctrl-C again kills at once")
    begin = time.monotonic()
    up.terminal.sendintr()
    said, code = up.end()
    print(f"killed in {time.monotonic() - begin:.2f} s")
    assert code == 130
    assert "Killed" in said
    assert str(tmp_path / "data") in said.replace("\n", "")
    assert left_of(family) == []


@pytest.mark.timeout(2 * START + JOB)
@pytest.mark.parametrize("how", ["kill -9", "closed terminal"])
def test_nothing_is_left_when_it_cannot_clean_up(tmp_path: Path, how: str) -> None:
    up = Up(tmp_path / "data")
    asyncio.run(start_training(up.address(), tmp_path))
    family = up.family()
    begin = time.monotonic()
    if how == "kill -9":
        up.terminal.kill(signal.SIGKILL)
    else:
        os.close(up.terminal.child_fd)
    left = left_of(family)
    print(f"{how}: all gone after {time.monotonic() - begin:.2f} s")
    assert left == []
    with closing(sqlite3.connect(tmp_path / "data" / "visionmesh.db")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]


def refused(data_dir: Path, *flags: str, environment: dict[str, str] | None = None) -> str:
    """What `vmesh up` says when it refuses: a few lines, with no log and no traceback among them."""
    up = Up(data_dir, *flags, environment=environment)
    said, code = up.end()
    assert code == 2, said
    assert "Traceback" not in said
    assert "{" not in said
    return " ".join(said.split())


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something else listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_refused_with_who_has_it_and_the_way_out(tmp_path: Path, taken: int) -> None:
    said = refused(tmp_path / "data", "--port", str(taken))
    assert f"Port {taken} of 127.0.0.1 is taken by process {os.getpid()}" in said
    assert "--port 0 takes a free one" in said


@pytest.mark.timeout(2 * START)
def test_a_folder_has_one_mesh(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    address = first.address()
    said = refused(tmp_path / "data")
    assert "Another scheduler (process " in said
    assert f"Use that one with --address {address}" in said
    assert first.terminal.isalive()
    first.terminal.sendintr()
    assert first.end()[1] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("newer", r"schema revision '9999', which this version does not know: a newer VisionMesh wrote it"),
        ("foreign", r"VisionMesh did not make it"),
        ("text", r"is not an SQLite database"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "visionmesh.db"
    if content == "text":
        path.write_text("no database " * 100)
    else:
        with closing(sqlite3.connect(path)) as connection:
            table = "alembic_version" if content == "newer" else "songs"
            connection.execute(f"CREATE TABLE {table} (version_num TEXT)")
            connection.execute(f"INSERT INTO {table} VALUES ('9999')")  # noqa: S608
            connection.commit()
    before = path.read_bytes()
    said = refused(tmp_path)
    assert re.search(words, said)
    assert str(path) in said
    assert path.read_bytes() == before


def test_a_wrong_setting_is_refused_with_its_name(tmp_path: Path) -> None:
    assert "lease_seconds = 'soon'" in refused(tmp_path, environment={"LEASE_SECONDS": "soon"})
    assert "only sqlite:///PATH" in refused(tmp_path, environment={"DATABASE_URL": "mysql://h/d"})


NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999_next", "HEAD"
def upgrade():
    op.add_column("datasets", sa.Column("colour", sa.String()))
"""


@pytest.mark.timeout(2 * START)
def test_a_stale_database_is_backed_up_migrated_and_told(tmp_path: Path) -> None:
    first = Up(tmp_path / "data")
    first.screen()
    first.terminal.sendintr()
    assert first.end()[1] == 0
    newer = tmp_path / "newer"
    shutil.copytree(Path(str(scheduler.__file__)).parent, newer / "scheduler")
    versions = newer / "scheduler" / "store" / "migrations" / "versions"
    (versions / "9999_next.py").write_text(NEXT.replace("HEAD", HEAD))

    second = Up(tmp_path / "data", environment={"PYTHONPATH": str(newer), "PYTHONSAFEPATH": "1"})
    screen = second.screen().replace("\n", "")
    (backup,) = (tmp_path / "data").glob(f"visionmesh.db.backup-{HEAD}-*Z")
    assert f"migrated from {HEAD} to 9999_next; as it was before: {backup}" in screen
    second.terminal.sendintr()
    assert second.end()[1] == 0
    assert "database migrated" in (tmp_path / "data" / "logs" / "scheduler.log").read_text()
    assert "a newer VisionMesh wrote it" in refused(tmp_path / "data")
