"""A local mesh is started in order, watched, and stopped whole. Its processes are stand-ins here."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from visionmesh.cli import mesh as local
from visionmesh.cli.mesh import LocalMeshError, LocalProcess, MeshSettings, local_mesh

SCHEDULER = """
import argparse, json, os, pathlib, signal, sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from visionmesh.v1 import runner_pb2, runner_pb2_grpc
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
parser = argparse.ArgumentParser()
for name in ("--host", "--port", "--data-dir", "--ready-fd"):
    parser.add_argument(name)
options = parser.parse_args()
folder = pathlib.Path(options.data_dir)
if (folder / "broken").exists():
    sys.exit("nobody knows why")
def tell(message):
    with open(int(options.ready_fd), "w") as ready:
        ready.write(json.dumps(message) + "\\n")
if (folder / "refuses").exists():
    tell({"reason": "DATABASE_NEWER", "message": "The database is newer. Start that version."})
    sys.exit(2)
class Runners(runner_pb2_grpc.RunnerServiceServicer):
    def ListRunners(self, request, context):
        online = [path.name for path in folder.glob("runners/*/here")]
        runner = runner_pb2.Runner(name="runners/r", state=runner_pb2.RUNNER_STATE_ONLINE)
        return runner_pb2.ListRunnersResponse(runners=[runner] * len(online))
server = grpc.server(ThreadPoolExecutor(4))
runner_pb2_grpc.add_RunnerServiceServicer_to_server(Runners(), server)
port = server.add_insecure_port(f"{options.host}:{options.port}")
server.start()
told = {"address": f"{options.host}:{port}", "pid": os.getpid()}
if (folder / "upgrades").exists():
    told["upgrade"] = {"before": "0001", "after": "0002", "backup": "visionmesh.db.backup-0001"}
tell(told)
signal.sigwait([signal.SIGTERM])
with (folder / "order").open("a") as order:
    order.write("scheduler\\n")
server.stop(0).wait()
"""
AGENT = """
import argparse, pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
parser = argparse.ArgumentParser()
for name in ("--scheduler", "--framework", "--runner-id", "--work-dir", "--slots"):
    parser.add_argument(name)
folder = pathlib.Path(parser.parse_args().work_dir)
(folder / "here").touch()
if (folder.parent.parent / "deaf").exists():
    while True:
        signal.pause()
signal.sigwait([signal.SIGTERM])
with (folder.parent.parent / "order").open("a") as order:
    order.write("runner\\n")
"""


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a mesh whose `scheduler` and `runners.agent` are the two programs above."""
    programs = tmp_path / "programs"
    (programs / "runners").mkdir(parents=True)
    (programs / "scheduler.py").write_text(SCHEDULER)
    (programs / "runners" / "__init__.py").touch()
    (programs / "runners" / "agent.py").write_text(AGENT)
    monkeypatch.setenv("PYTHONPATH", str(programs))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # else the repository, where tests run, comes first
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_runners_stop_before_the_scheduler_and_nothing_is_left(data_dir: Path) -> None:
    async def run() -> list[int]:
        async with local_mesh(MeshSettings(data_dir, runners=2)) as mesh:
            assert len(await mesh.runners()) == 2
            return [process.pid for process in mesh.processes]

    pids = asyncio.run(run())
    assert len(pids) == 3
    assert not any(is_alive(pid) for pid in pids)
    assert (data_dir / "order").read_text().split() == ["runner", "runner", "scheduler"]


def test_a_scheduler_that_does_not_start_is_reported_with_its_log(data_dir: Path) -> None:
    (data_dir / "broken").touch()

    async def run() -> None:
        async with local_mesh(MeshSettings(data_dir)):
            pass

    with pytest.raises(LocalMeshError, match=r"scheduler ended with code 1(.|\n)*nobody knows why"):
        asyncio.run(run())


def test_a_scheduler_that_refuses_is_told_in_its_own_words(data_dir: Path) -> None:
    (data_dir / "refuses").touch()

    async def run() -> None:
        async with local_mesh(MeshSettings(data_dir)):
            pass

    with pytest.raises(LocalMeshError, match=r"^The database is newer\. Start that version\.$") as refused:
        asyncio.run(run())
    assert refused.value.reason == "DATABASE_NEWER"


def test_a_process_that_dies_ends_the_work_and_the_mesh(data_dir: Path) -> None:
    pids: list[int] = []

    async def run() -> None:
        async with local_mesh(MeshSettings(data_dir)) as mesh:
            pids.extend(process.pid for process in mesh.processes)
            os.kill(pids[1], signal.SIGKILL)
            await mesh.stay()

    with pytest.raises(LocalMeshError, match="runner ultralytics-1 was killed by SIGKILL"):
        asyncio.run(run())
    assert not any(is_alive(pid) for pid in pids)


def test_a_runner_that_does_not_listen_is_killed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_AGENT_GRACE", 0.2)
    (data_dir / "deaf").touch()

    async def run() -> list[int]:
        async with local_mesh(MeshSettings(data_dir)) as mesh:
            return [process.pid for process in mesh.processes]

    assert not any(is_alive(pid) for pid in asyncio.run(run()))
    assert (data_dir / "order").read_text().split() == ["scheduler"]


async def test_what_a_process_says_last_is_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talker.py").write_text("print('\\n'.join(f'line {n}' for n in range(40)))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = await LocalProcess.start("talker", ["talker"], tmp_path / "log")
    told = await process.wait_ended()
    assert "talker ended with code 0" in told
    assert told.splitlines()[-15:] == [f"line {n}" for n in range(25, 40)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_up_stops_on_a_signal_and_says_where_the_data_is(
    data_dir: Path, number: signal.Signals, end: Callable[["subprocess.Popen[str]"], str]
) -> None:
    command = [sys.executable, "-m", "visionmesh.cli", "up", "--port", "0", "--data-dir", str(data_dir)]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert up.stdout is not None
    first = up.stdout.readline()
    assert "is up" in first
    up.send_signal(number)
    assert f"Everything is kept in {data_dir}" in end(up)
    assert up.returncode == 0
    assert (data_dir / "order").read_text().split() == ["runner", "scheduler"]


def test_up_fails_when_a_process_dies(data_dir: Path, end: Callable[["subprocess.Popen[str]"], str]) -> None:
    (data_dir / "broken").touch()
    command = [sys.executable, "-m", "visionmesh.cli", "up", "--port", "0", "--data-dir", str(data_dir)]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "nobody knows why" in end(up)
    assert up.returncode == 2


@pytest.fixture
def end() -> Callable[["subprocess.Popen[str]"], str]:
    """What the process still says, when it has ended."""
    return lambda process: process.communicate(timeout=30)[0]


async def test_a_folder_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalMeshError, match="cannot be written: Not a directory") as refused:
        async with local_mesh(MeshSettings(tmp_path / "file" / "data")):
            pass
    assert refused.value.reason == "DATA_DIR_UNUSABLE"
    assert "--data-dir" in str(refused.value)
