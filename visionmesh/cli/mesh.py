"""A mesh on this machine: a scheduler and runner agents as processes that end with their owner."""

import asyncio
import json
import os
import shutil
import signal
import sys
import uuid
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from visionmesh.client import AsyncClient
from visionmesh.v1 import runner_pb2

_LOOK_EVERY = 0.05  # seconds between looks at a file or a list that does not tell by itself
_START_TIMEOUT = 60.0
_AGENT_GRACE = 6.0  # seconds: an agent stops its job process and says goodbye
_SCHEDULER_GRACE = 4.0
_LOG_TAIL_LINES = 15

Found = TypeVar("Found")


class LocalMeshError(Exception):
    """A process of the mesh did not start, or ended by itself; the message holds the end of its log."""


@dataclass(frozen=True)
class MeshSettings:
    """What is to be started."""

    data_dir: Path
    """Holds the database, the object store, the runners' folders and the logs."""

    port: int = 0
    """Port of the scheduler on the loopback interface; 0 for a free one."""

    framework: str = "ultralytics"
    """What the runners run."""

    runners: int = 1
    """How many agents are started."""

    slots: int = 1
    """Jobs at a time on each."""


class LocalProcess:
    """A process of the mesh with its log file."""

    def __init__(self, title: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.title = title
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, title: str, arguments: list[str], log: Path) -> "LocalProcess":
        """Start `python -m arguments…` in a session of its own, so that Ctrl-C reaches only us."""
        command = [*_bound_to_us(), sys.executable, "-m", *arguments]
        with await asyncio.to_thread(log.open, "ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        return cls(title, process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def wait_ended(self) -> str:
        """Wait for the end that nobody asked for; what to tell about it."""
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        tail = await asyncio.to_thread(_tail, self.log)
        return f"The {self.title} {how}. The end of {self.log}:\n{tail}"

    async def stop(self, grace: float) -> None:
        """SIGTERM, then after `grace` seconds SIGKILL to what is left of its session."""
        if self.is_running:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self._kill()
            await self._process.wait()
        except asyncio.CancelledError:  # a second Ctrl-C: at once
            self._kill()
            raise

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class LocalMesh:
    """A running mesh."""

    def __init__(self, settings: MeshSettings, address: str, processes: list[LocalProcess]) -> None:
        self.settings = settings
        self.address = address
        self.processes = processes

    async def run(self, work: Coroutine[Any, Any, Found]) -> Found:
        """What `work` comes to; raises LocalMeshError if a process of the mesh ends first."""
        task = asyncio.create_task(work)
        ends = [asyncio.create_task(process.wait_ended()) for process in self.processes]
        try:
            await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise LocalMeshError(next(end for end in ends if end.done()).result())
            return task.result()
        finally:
            for pending in (task, *ends):
                pending.cancel()
            await asyncio.gather(task, *ends, return_exceptions=True)

    async def stay(self) -> NoReturn:
        """Wait to be cancelled; raises LocalMeshError when a process ends by itself."""
        await self.run(asyncio.Event().wait())
        raise AssertionError("nobody sets that event")

    async def runners(self) -> list[runner_pb2.Runner]:
        """The runners that are connected."""
        async with AsyncClient(self.address) as client:
            listed = [runner async for runner in client.list_runners()]
        return [runner for runner in listed if runner.state == runner_pb2.RUNNER_STATE_ONLINE]


@asynccontextmanager
async def local_mesh(settings: MeshSettings) -> AsyncIterator[LocalMesh]:
    """Start a mesh, wait until its runners are connected, and stop it at the end.

    Raises LocalMeshError if a process ends before that, or is not ready within a minute.
    """
    logs = settings.data_dir / "logs"
    await asyncio.to_thread(logs.mkdir, parents=True, exist_ok=True)
    started: list[LocalProcess] = []
    mesh = LocalMesh(settings, "", started)
    try:
        mesh.address = await _start_scheduler(mesh, logs)
        for number in range(1, settings.runners + 1):
            await _start_agent(mesh, logs, number)
        await _ready(mesh, "runners", _connected(mesh))
        yield mesh
    finally:
        await _stop(started)


async def _start_scheduler(mesh: LocalMesh, logs: Path) -> str:
    """Its address, once it serves."""
    settings = mesh.settings
    ready_file = settings.data_dir / f"ready-{uuid.uuid4().hex[:8]}.json"
    arguments = ["scheduler", "--host", "127.0.0.1", "--port", str(settings.port)]
    arguments += ["--data-dir", str(settings.data_dir), "--ready-file", str(ready_file)]
    mesh.processes.append(await LocalProcess.start("scheduler", arguments, logs / "scheduler.log"))
    try:
        return await _ready(mesh, "scheduler", _serving(ready_file))
    finally:
        await asyncio.to_thread(ready_file.unlink, missing_ok=True)


async def _start_agent(mesh: LocalMesh, logs: Path, number: int) -> None:
    settings = mesh.settings
    name = f"{settings.framework}-{number}"
    work_dir = settings.data_dir / "runners" / name
    await asyncio.to_thread(work_dir.mkdir, parents=True, exist_ok=True)
    arguments = ["runners.agent", "--scheduler", mesh.address, "--framework", settings.framework]
    arguments += ["--runner-id", name, "--work-dir", str(work_dir), "--slots", str(settings.slots)]
    mesh.processes.append(await LocalProcess.start(f"runner {name}", arguments, logs / f"{name}.log"))


async def _ready(mesh: LocalMesh, what: str, waiting: Coroutine[Any, Any, Found]) -> Found:
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            return await mesh.run(waiting)
    except TimeoutError:
        logs = mesh.settings.data_dir / "logs"
        raise LocalMeshError(
            f"The {what} did not get ready in {_START_TIMEOUT:g} s. Look into {logs}."
        ) from None


async def _serving(ready_file: Path) -> str:
    """The scheduler's address, when it has written it down."""
    while (address := await asyncio.to_thread(_read_address, ready_file)) is None:  # noqa: ASYNC110 - nobody sets an event
        await asyncio.sleep(_LOOK_EVERY)
    return address


async def _connected(mesh: LocalMesh) -> None:
    """Return when all runners are connected."""
    while len(await mesh.runners()) < mesh.settings.runners:  # noqa: ASYNC110 - nobody sets an event
        await asyncio.sleep(_LOOK_EVERY)


async def _stop(started: list[LocalProcess]) -> None:
    """Agents first: their goodbye needs the scheduler, which is started[0]."""
    try:
        await asyncio.gather(*(agent.stop(_AGENT_GRACE) for agent in started[1:]))
    finally:
        for scheduler in started[:1]:
            await scheduler.stop(_SCHEDULER_GRACE)


def _read_address(ready_file: Path) -> str | None:
    if not ready_file.exists():
        return None
    address: str = json.loads(ready_file.read_text())["address"]
    return address


def _bound_to_us() -> list[str]:
    """A prefix that has the kernel end the process when we are killed without a chance to."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _tail(log: Path) -> str:
    with log.open(errors="replace") as file:
        return "".join(deque(file, _LOG_TAIL_LINES)).rstrip() or "(empty)"
