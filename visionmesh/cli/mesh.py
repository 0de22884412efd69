"""A mesh on this machine: a scheduler, runner agents and a gateway as processes that end with their owner."""

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from visionmesh.cli._local_process import LocalProcess
from visionmesh.cli._ready_pipe import ReadyPipe
from visionmesh.client import AsyncClient
from visionmesh.v1 import runner_pb2

__all__ = ["DatabaseUpgrade", "LocalMesh", "LocalMeshError", "LocalProcess", "MeshSettings", "local_mesh"]

_LOOK_EVERY = 0.05  # seconds between looks at a list that does not tell by itself
_START_TIMEOUT = 60.0
_AGENT_GRACE = 6.0  # seconds: an agent stops its job process and says goodbye
_SCHEDULER_GRACE = 4.0

Found = TypeVar("Found")


class LocalMeshError(Exception):
    """The mesh did not start, or a process of it ended by itself.

    The message says what, why and what to do next; for an end that nobody expected it holds the end of
    the log.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """Why the scheduler refused to start, such as DATABASE_NEWER; empty for anything else."""


@dataclass(frozen=True)
class MeshSettings:
    """What is to be started."""

    data_dir: Path
    """Holds the database, the object store, the runners' folders and the logs."""

    port: int = 0
    """Port of the scheduler on the loopback interface; 0 for a free one."""

    frameworks: tuple[str, ...] = ("ultralytics",)
    """What the runners run."""

    runners: int = 1
    """How many agents of each framework are started."""

    slots: int = 1
    """Jobs at a time on each."""

    datasets: str = ""
    """URL of the store of datasets; empty: what DATASETS_URL says, else a folder in data_dir."""

    artifacts: str = ""
    """URL of the store of checkpoints and results; empty: what ARTIFACTS_URL says, else a folder."""

    pretrained: bool = False
    """Whether they fetch published weights; else as VISIONMESH_PRETRAINED says."""

    http: bool = False
    """A gateway is started too: REST, JSON and event streams on the loopback interface."""

    http_port: int | None = None
    """Its port; 0 for a free one. None: 8080, or a free one where that is taken."""


@dataclass(frozen=True)
class DatabaseUpgrade:
    """What was done to a database of an earlier version."""

    before: str
    """Its schema revision then."""

    after: str
    """Its schema revision now."""

    backup: str
    """Path of the copy that was made first."""


class LocalMesh:
    """A running mesh."""

    def __init__(self, settings: MeshSettings) -> None:
        self.settings = settings
        self.address = ""
        self.http_address = ""
        self.processes: list[LocalProcess] = []
        self.upgrade: DatabaseUpgrade | None = None

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
        # A drained one is connected too: it stays drained over restarts.
        return [runner for runner in listed if runner.state != runner_pb2.RUNNER_STATE_OFFLINE]


@asynccontextmanager
async def local_mesh(
    settings: MeshSettings, tell: Callable[[str], object] = lambda _: None
) -> AsyncIterator[LocalMesh]:
    """Start a mesh, wait until its runners are connected, and stop it at the end.

    `tell` hears what is waited for. A caller that is cancelled again while the mesh stops has it killed.
    Raises LocalMeshError if a process ends before that, or is not ready within a minute.
    """
    mesh = LocalMesh(settings)
    await asyncio.to_thread(_prepare, settings.data_dir)
    try:
        tell("Starting the scheduler…")
        await _start_scheduler(mesh)
        for framework in settings.frameworks:
            for number in range(1, settings.runners + 1):
                await _start_agent(mesh, framework, number)
        if settings.http:
            await _start_gateway(mesh)
        tell(f"Waiting for the runners: they import {' and '.join(settings.frameworks)}…")
        await _ready(mesh, "runners", _connected(mesh))
        yield mesh
    finally:
        await _stop(mesh.processes)


def _prepare(data_dir: Path) -> None:
    """Make the folder of the logs. Raises LocalMeshError where nothing can be written."""
    probe = data_dir / "logs" / f".probe-{os.getpid()}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))  # an empty file fits onto a full disk
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            text = f"There is no room left on the disk of {data_dir}. Free some, or choose another folder"
            raise LocalMeshError(f"{text} with --data-dir.", "DISK_FULL") from error
        text = f"The folder {data_dir} cannot be written: {error.strerror}. Mend that, or choose another"
        raise LocalMeshError(f"{text} with --data-dir.", "DATA_DIR_UNUSABLE") from error


async def _start_scheduler(mesh: LocalMesh) -> None:
    """Wait until it serves. Raises LocalMeshError with its own words if it refuses to."""
    settings = mesh.settings
    arguments = ["scheduler", "--host", "127.0.0.1", "--port", str(settings.port)]
    arguments += ["--data-dir", str(settings.data_dir)]
    for flag, url in (("--datasets-url", settings.datasets), ("--artifacts-url", settings.artifacts)):
        arguments += [flag, url] if url else []
    told = await _started(mesh, "scheduler", arguments)
    mesh.address = told["address"]
    if "upgrade" in told:
        mesh.upgrade = DatabaseUpgrade(**told["upgrade"])


async def _started(mesh: LocalMesh, title: str, arguments: list[str]) -> dict[str, Any]:
    """Start a process that tells when it serves; what it tells. Raises LocalMeshError."""
    log = mesh.settings.data_dir / "logs" / f"{title}.log"
    with ReadyPipe() as pipe:
        arguments = [*arguments, "--ready-fd", str(pipe.write_fd)]
        process = await LocalProcess.start(title, arguments, log, [pipe.write_fd])
        mesh.processes.append(process)
        pipe.close_ours()
        told = await _within(mesh, title, pipe.told())
    if told is None:
        raise LocalMeshError(await process.wait_ended())
    if "address" not in told:
        raise LocalMeshError(told["message"], told["reason"])
    return told


async def _start_gateway(mesh: LocalMesh) -> None:
    """Wait until it serves. Raises LocalMeshError with its own words if it refuses to."""
    port = mesh.settings.http_port
    arguments = ["gateway", "--host", "127.0.0.1", "--scheduler", mesh.address]
    arguments += ["--port", "8080", "--or-any-port"] if port is None else ["--port", str(port)]
    mesh.http_address = (await _started(mesh, "gateway", arguments))["address"]


async def _start_agent(mesh: LocalMesh, framework: str, number: int) -> None:
    settings = mesh.settings
    name = f"{_plain(framework)}-{number}"
    work_dir = settings.data_dir / "runners" / name
    await asyncio.to_thread(work_dir.mkdir, parents=True, exist_ok=True)
    arguments = ["runners.agent", "--scheduler", mesh.address, "--framework", framework]
    arguments += ["--runner-id", name, "--work-dir", str(work_dir), "--slots", str(settings.slots)]
    arguments += ["--pretrained"] if settings.pretrained else []
    log = settings.data_dir / "logs" / f"{name}.log"
    mesh.processes.append(await LocalProcess.start(f"runner {name}", arguments, log))


def _plain(framework: str) -> str:
    """A framework in the letters of a runner's id, which is also the name of its folder."""
    return re.sub("[^a-z0-9]+", "-", framework.lower()).strip("-")[:50]


async def _ready(mesh: LocalMesh, what: str, waiting: Coroutine[Any, Any, Found]) -> Found:
    """What `waiting` comes to; raises LocalMeshError if a process ends first, or it takes too long."""
    return await _within(mesh, what, mesh.run(waiting))


async def _within(mesh: LocalMesh, what: str, waiting: Coroutine[Any, Any, Found]) -> Found:
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            return await waiting
    except TimeoutError:
        logs = mesh.settings.data_dir / "logs"
        raise LocalMeshError(
            f"The {what} did not get ready in {_START_TIMEOUT:g} s. Look into {logs}."
        ) from None


async def _connected(mesh: LocalMesh) -> None:
    """Return when all runners are connected."""
    wanted = mesh.settings.runners * len(mesh.settings.frameworks)
    while len(await mesh.runners()) < wanted:  # noqa: ASYNC110 - nobody sets an event
        await asyncio.sleep(_LOOK_EVERY)


async def _stop(started: list[LocalProcess]) -> None:
    """Agents first: their goodbye needs the scheduler, which is started[0]. Cancelled: kills them all."""
    try:
        await asyncio.gather(*(agent.stop(_AGENT_GRACE) for agent in started[1:]))
        for scheduler in started[:1]:
            await scheduler.stop(_SCHEDULER_GRACE)
    except asyncio.CancelledError:
        for process in started:
            process.kill()
        raise
