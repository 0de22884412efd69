"""Starts job processes: forked by a zygote, or each by itself."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from runners.agent.job_process import JobProcess, LaunchFailed, Pipes
from runners.process.spawned import PARENT_VARIABLE
from runners.process.zygote import MAX_PACKET_BYTES

READY_SECONDS = 180.0
"""Longest time that a framework's import may take."""

_START_SECONDS = 30.0

log = structlog.get_logger(__name__)


class Launcher(Protocol):
    """Starts job processes."""

    async def start(self) -> None:
        """Get ready. Raises LaunchFailed."""

    async def launch(self, environ: Mapping[str, str], cwd: Path) -> JobProcess:
        """Start a job process with exactly `environ`; it waits for its start. Raises LaunchFailed."""

    async def close(self) -> None:
        """Let go of what was made ready."""


class SpawnLauncher:
    """Starts each job process anew, which imports the framework anew."""

    def __init__(self, framework: str) -> None:
        self._framework = framework

    async def start(self) -> None:
        """Nothing is to be made ready."""

    async def launch(self, environ: Mapping[str, str], cwd: Path) -> JobProcess:
        """Start a job process; it leads its own session. Raises LaunchFailed."""
        pipes = Pipes.open()
        events, commands, output = pipes.for_job
        descriptors = {"EVENTS_FD": str(events), "COMMANDS_FD": str(commands)}
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - an exec, done in a millisecond
                [sys.executable, "-m", "runners.process.spawned", self._framework],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(events, commands),
                start_new_session=True,
                cwd=cwd,
                env={**environ, **descriptors, PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            pipes.close_agent_ends()
            raise LaunchFailed(f"no job process can be started: {error}") from error
        finally:
            pipes.close_job_ends()
        exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        _on_exit(process, lambda code: None if exited.done() else exited.set_result(code))
        job = JobProcess(process.pid, exited)
        await job.connect(pipes)
        return job

    async def close(self) -> None:
        """Nothing is kept ready."""


class ZygoteLauncher:
    """Has a zygote fork job processes; starts another when it dies."""

    def __init__(self, framework: str, environ: Mapping[str, str]) -> None:
        """`environ` is the zygote's own environment."""
        self._framework, self._environ = framework, environ
        self._zygote: _Zygote | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the zygote and wait until it has imported the framework. Raises LaunchFailed."""
        await self._alive()

    async def _alive(self) -> "_Zygote":
        async with self._starting:
            if self._zygote is None or self._zygote.gone.done():
                self._zygote = _Zygote(self._framework, self._environ)
            await self._zygote.ready()
            return self._zygote

    async def launch(self, environ: Mapping[str, str], cwd: Path) -> JobProcess:
        """Fork a job process; it leads its own session. Raises LaunchFailed."""
        zygote = await self._alive()
        pipes = Pipes.open()
        try:
            pid, exited = await zygote.fork(environ, cwd, pipes)
        except BaseException:  # a cancellation too: the job's side sees its pipes closed, and ends
            pipes.close_agent_ends()
            raise
        finally:
            pipes.close_job_ends()
        job = JobProcess(pid, exited)
        await job.connect(pipes)
        return job

    async def close(self) -> None:
        """End the zygote."""
        if self._zygote is not None:
            await self._zygote.close()


class _Zygote:
    """A zygote process and the socket to it."""

    def __init__(self, framework: str, environ: Mapping[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_PACKET_BYTES)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runners.process.zygote", framework, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # whatever an import prints belongs into the agent's log
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=dict(environ),
            )
        self.gone: asyncio.Future[int] = self._loop.create_future()
        self._is_ready: asyncio.Future[None] = self._loop.create_future()
        self._started: dict[int, asyncio.Future[int]] = {}
        self._exited: dict[int, asyncio.Future[int | None]] = {}
        self._last_id = 0
        self._loop.add_reader(self._socket, self._read)
        _on_exit(self._process, self._ended)

    async def ready(self) -> None:
        """Wait until the framework is imported. Raises LaunchFailed."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.shield(self._is_ready)
        except TimeoutError:
            self._process.kill()
            raise LaunchFailed(f"the framework was not imported within {READY_SECONDS:.0f} s") from None

    async def fork(
        self, environ: Mapping[str, str], cwd: Path, pipes: Pipes
    ) -> "tuple[int, asyncio.Future[int | None]]":
        """Process id and future exit code of a new job process. Raises LaunchFailed."""
        self._last_id += 1
        number = self._last_id
        started = self._started[number] = self._loop.create_future()
        exited = self._exited[number] = self._loop.create_future()
        request = json.dumps({"id": number, "environ": dict(environ), "cwd": str(cwd)}).encode()
        try:
            socket.send_fds(self._socket, [request], list(pipes.for_job))
            async with asyncio.timeout(_START_SECONDS):
                return await started, exited
        except OSError as error:  # TimeoutError too
            self._exited.pop(number, None)
            raise LaunchFailed(f"the zygote takes no request: {error!r}") from error
        finally:
            self._started.pop(number, None)

    async def close(self) -> None:
        """Close the socket, at which it ends, and wait for that."""
        self._disconnect()
        await asyncio.shield(self.gone)

    def _disconnect(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(MAX_PACKET_BYTES):
                self._hear(json.loads(data))
        except BlockingIOError:
            return
        except OSError:
            pass
        self._loop.remove_reader(self._socket)

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "ready" in message:
            _settle(self._is_ready, None)
        elif "started" in message and message["id"] in self._started:
            _settle(self._started[message["id"]], message["started"])
        elif "exited" in message:
            code = os.waitstatus_to_exitcode(message["exited"])
            exited = self._exited.pop(message["id"], None)
            if exited is not None:
                _settle(exited, code)
            if message["id"] in self._started:
                _fail(self._started[message["id"]], f"the job process ended at once, exit code {code}")

    def _ended(self, code: int) -> None:
        """The zygote is gone, and with it its children: the kernel kills them."""
        if self._socket.fileno() >= 0:
            self._read()  # what it said last
            self._disconnect()
            log.error("zygote died", exit_code=code)
        _settle(self.gone, code)
        _fail(self._is_ready, f"the zygote died with exit code {code}; its error is in the agent's log")
        for started in self._started.values():
            _fail(started, f"the zygote died with exit code {code}")
        for exited in self._exited.values():
            _settle(exited, None)
        self._exited.clear()


def _settle(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: "asyncio.Future[Any]", why: str) -> None:
    if not future.done():
        future.set_exception(LaunchFailed(why))
        future.exception()  # heard, whether or not anybody waits


def _on_exit(process: "subprocess.Popen[bytes]", tell: Callable[[int], object]) -> None:
    """Call `tell` in the running loop with the exit code when `process` ends.

    By a thread: asyncio's own child watchers are bound to how the loop was made.
    """
    loop = asyncio.get_running_loop()

    def wait() -> None:
        code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(tell, code)

    threading.Thread(target=wait, name=f"wait-{process.pid}", daemon=True).start()
