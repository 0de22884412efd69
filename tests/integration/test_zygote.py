"""Job processes of both launchers, and the guardians that outlive the agent."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runners.agent.guard import Guardians
from runners.agent.job_environment import base_environment
from runners.agent.job_process import JobProcess, LaunchFailed
from runners.agent.launcher import SpawnLauncher, ZygoteLauncher
from runners.process.environment import JobEnvironment
from runners.process.framing import Decoder
from visionmesh.v1 import process_pb2, vision_pb2

DEADLINE = 30.0
FRAMEWORK = "plain_framework:Plain"
SLEEP = "import time; time.sleep(600)"


def environ() -> dict[str, str]:
    return {**base_environment(), "PYTHONPATH": str(Path(__file__).parent)}


@contextlib.asynccontextmanager
async def zygote(framework: str = FRAMEWORK):
    launcher = ZygoteLauncher(framework, environ())
    try:
        yield launcher
    finally:
        await launcher.close()


@pytest.fixture(params=["zygote", "spawn"])
async def launcher(request):
    if request.param == "spawn":
        yield SpawnLauncher(FRAMEWORK)
        return
    async with zygote() as launcher:
        await launcher.start()
        yield launcher


@contextlib.asynccontextmanager
async def launched(launcher, folder: Path, model: str, **settings):
    """A job process that has not been told to start."""
    told = JobEnvironment(model_name=model, output_path=folder, **settings).to_environ()
    process = await launcher.launch({**environ(), **told, "MARK": "here"}, folder)
    try:
        yield process
    finally:
        process.kill()
        process.close()


async def events_of(process: JobProcess) -> list[process_pb2.ProcessEvent]:
    decoder, events = Decoder(process_pb2.ProcessEvent), []
    async with asyncio.timeout(DEADLINE):
        while data := await process.events.read(65536):
            events += decoder.feed(data)
    return events


async def logged(process: JobProcess) -> object:
    """The first log line, read as JSON, as soon as it comes."""
    decoder = Decoder(process_pb2.ProcessEvent)
    async with asyncio.timeout(DEADLINE):
        while data := await process.events.read(65536):
            for event in decoder.feed(data):
                if event.progress.HasField("log_line"):
                    return json.loads(event.progress.log_line.message)
    raise AssertionError("it said nothing")


async def gone(pid: int, seconds: float = DEADLINE) -> None:
    """Wait until a process has ended; its parent need not have noticed."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, ended.set)
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def test_a_job_process_is_what_it_was_told_to_be(launcher, tmp_path):
    async with launched(launcher, tmp_path, "probe") as process:
        process.start()
        seen = await logged(process)
        async with asyncio.timeout(DEADLINE):
            assert await process.exited == 0
    assert seen["pid"] == seen["session"] == seen["group"] == process.pid
    assert seen["cwd"] == str(tmp_path)
    assert seen["environ"]["MARK"] == "here"
    assert seen["environ"]["PATH"] == os.environ["PATH"]
    assert not [name for name in seen["environ"] if name.startswith("PYTEST")]
    assert len(seen["fds"]) == 6, "standard three, commands, events, and the one that lists them"
    assert seen["default_sigterm"]


async def test_the_zygotes_import_is_the_jobs_and_its_randomness_is_not(tmp_path):
    async with zygote() as launcher:
        seen = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            async with launched(launcher, folder, "probe") as process:
                process.start()
                seen.append(await logged(process))
    first, second = seen
    assert first["preloaded_by"] == second["preloaded_by"]
    assert first["preloaded_by"] not in (first["pid"], second["pid"], os.getpid())
    assert first["random"] != second["random"]
    assert first["environ"]["PLAIN_SAFE_LOAD"] == "1", "what the import has set stays"


async def test_events_come_in_order_and_end_with_the_ending(launcher, tmp_path):
    async with launched(launcher, tmp_path, "epochs", epochs=3, dataset_path=tmp_path) as process:
        process.start()
        events = await events_of(process)
        printed = await process.output.read()
        async with asyncio.timeout(DEADLINE):
            assert await process.exited == 0
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "progress"
    assert events[0].progress.HasField("attempt_started")
    assert events[0].progress.attempt_started.pid == process.pid
    told = [e.progress.epoch_completed.epoch for e in events if e.progress.HasField("epoch_completed")]
    assert told == [1, 2, 3]
    assert kinds[-1] == "ended"
    assert events[-1].ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED
    assert b"epoch 3 100%" in printed


@pytest.mark.parametrize(
    ("model", "number", "exit_code"),
    [
        ("killed", signal.SIGKILL, -signal.SIGKILL),
        ("killed", signal.SIGSEGV, -signal.SIGSEGV),
        ("leave", 7, 7),
        ("leave", 0, 0),
        ("fail", 0, 1),
    ],
)
async def test_the_exit_code_is_told(launcher, tmp_path, model, number, exit_code):
    async with launched(launcher, tmp_path, model, seed=int(number)) as process:
        process.start()
        async with asyncio.timeout(DEADLINE):
            assert await process.exited == exit_code


async def test_it_does_nothing_before_its_start_and_ends_when_the_agent_is_gone(launcher, tmp_path):
    async with launched(launcher, tmp_path, "probe") as process:
        process.close()  # as the kernel does for an agent that was killed
        async with asyncio.timeout(DEADLINE):
            assert await process.exited != 0


async def test_a_stop_before_the_start_is_obeyed(launcher, tmp_path):
    async with launched(launcher, tmp_path, "probe") as process:
        process.stop("changed my mind")
        events = await events_of(process)
        assert [event.WhichOneof("event") for event in events] == ["ended"]
        assert events[0].ended.outcome == vision_pb2.ATTEMPT_STATE_CANCELLED


async def test_a_kill_reaches_its_children(launcher, tmp_path):
    async with launched(launcher, tmp_path, "deaf") as process:
        process.start()
        leader, child, hidden = await logged(process)
        process.kill()
        await gone(leader)
        await gone(child)
        os.kill(hidden, signal.SIGKILL)  # beyond a process group's reach; the guardian's is longer


async def test_a_framework_that_starts_threads_is_refused():
    async with zygote("plain_framework:Threaded") as launcher:
        with pytest.raises(LaunchFailed, match="zygote died"):
            await launcher.start()


async def test_a_framework_that_does_not_exist_is_refused():
    async with zygote("plain_framework:Absent") as launcher:
        with pytest.raises(LaunchFailed, match="zygote died"):
            await launcher.start()


async def test_jobs_die_with_their_zygote_and_the_next_job_gets_another(tmp_path):
    async with zygote() as launcher:
        async with launched(launcher, tmp_path, "wait") as process:
            process.start()
            async with asyncio.timeout(DEADLINE):
                await process.events.read(1)
            psutil.Process(process.pid).parent().kill()
            async with asyncio.timeout(DEADLINE):
                assert await process.exited is None, "nobody is left who could know"
            await gone(process.pid)
        async with launched(launcher, tmp_path, "probe") as process:
            process.start()
            assert await logged(process)


async def test_the_zygote_ends_with_the_agent(tmp_path):
    async with zygote() as launcher, launched(launcher, tmp_path, "probe") as process:
        pid = psutil.Process(process.pid).ppid()
    await gone(pid, 5)


MARK = "GUARDED=yes"


def session() -> "subprocess.Popen[bytes]":
    """A process that leads a session, with a child, and one in a session of its own that is nobody's."""
    code = (
        "import os, subprocess, sys\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "child = subprocess.Popen(sleep)\n"
        "if os.fork() == 0:\n"
        "    hidden = subprocess.Popen(sleep, start_new_session=True)\n"
        "    print(child.pid, hidden.pid, flush=True)\n"
        "    os._exit(0)\n"
        "child.wait()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "GUARDED": "yes"},
    )


@pytest.fixture
async def guardians():
    guardians = Guardians()
    guardians.start()
    yield guardians
    await guardians.close()


async def test_a_guardian_kills_a_whole_session_when_its_pipe_closes(guardians):
    with session() as leader:
        child, hidden = map(int, (await asyncio.to_thread(leader.stdout.readline)).split())
        guard = await guardians.take(leader.pid, MARK)
        guard._process.stdin.close()  # as the kernel does for an agent that was killed
        for pid in (leader.pid, child, hidden):
            await gone(pid, 5)
        await guard.dismiss()


async def test_a_guardian_that_is_dismissed_kills_what_is_left(guardians):
    with session() as leader:
        child, hidden = map(int, (await asyncio.to_thread(leader.stdout.readline)).split())
        guard = await guardians.take(leader.pid, MARK)
        await guard.dismiss()
        for pid in (leader.pid, child, hidden):
            await gone(pid, 5)


async def test_a_spare_that_died_is_replaced(guardians):
    spare = await guardians._spare
    spare._process.kill()
    await spare._process.wait()
    with session() as leader:
        await asyncio.to_thread(leader.stdout.readline)
        guard = await guardians.take(leader.pid, MARK)
        await guard.dismiss()
        await gone(leader.pid, 5)
