"""Guardians: one process per job that kills the job's processes when the agent is gone."""

import asyncio
import contextlib
import sys
from pathlib import Path

import structlog

_SCRIPT = Path(__file__).with_name("guardian.py")
_READY_SECONDS = 10.0
_LEAVE_SECONDS = 10.0

log = structlog.get_logger(__name__)


class GuardianFailed(Exception):
    """No guardian could be put in place; the job must not run without one."""


class Guard:
    """A guardian that watches over one job."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def watch(self, leader: int, mark: str) -> None:
        """Put it in charge of session `leader` and of processes with `mark`. Raises GuardianFailed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise GuardianFailed("the guardian has no pipes")
        try:
            stdin.write(f"{leader} {mark}\n".encode())
            async with asyncio.timeout(_READY_SECONDS):
                answer = await stdout.readline()
        except (OSError, TimeoutError) as error:
            raise GuardianFailed(f"the guardian does not answer: {error!r}") from error
        if answer != b"ready\n":
            raise GuardianFailed(f"the guardian answered {answer!r}")

    async def dismiss(self) -> None:
        """Let it kill what is left of the job, and end; a second time does nothing."""
        if self._process.returncode is None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(b"done\n")
                self._process.stdin.close()
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Guardians:
    """Keeps one guardian started ahead, so that it costs a job no time."""

    def __init__(self) -> None:
        self._spare: asyncio.Task[Guard] | None = None

    def start(self) -> None:
        """Start the spare."""
        self._spare = asyncio.create_task(_start())

    async def take(self, leader: int, mark: str) -> Guard:
        """A guardian in charge of a job process. Raises GuardianFailed.

        `leader` is the job process, which leads its session; `mark` is an entry, NAME=value, that its
        environment has and no other.
        """
        spare = self._spare or asyncio.create_task(_start())
        self._spare = None
        try:
            guard = await spare
            await guard.watch(leader, mark)
        except (OSError, GuardianFailed) as error:
            log.warning("guardian replaced", why=str(error))
            guard = await self._replacement(leader, mark)
        self.start()
        return guard

    async def _replacement(self, leader: int, mark: str) -> Guard:
        try:
            guard = await _start()
        except OSError as error:
            raise GuardianFailed(f"no guardian can be started: {error}") from error
        await guard.watch(leader, mark)
        return guard

    async def close(self) -> None:
        """Let the spare go."""
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                await (await spare).dismiss()


async def _start() -> Guard:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(_SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Out of reach of what a terminal or a supervisor sends to the agent's process group.
        start_new_session=True,
        env={},
    )  # fmt: skip
    return Guard(process)
