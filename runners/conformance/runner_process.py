"""The runner under test: a process started from a command line."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from runners.conformance.observed import Failed

STOP_SECONDS = 20.0


class RunnerProcess:
    """Runs the command; what it prints goes to a file."""

    def __init__(self, command: Sequence[str], address: str, log: Path) -> None:
        """`{address}` in the command is replaced."""
        self._command = [part.replace("{address}", address) for part in command]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 if it does not run."""
        return self._process.pid if self.is_running and self._process else 0

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not ended."""
        return self._process is not None and self._process.returncode is None

    def memory_bytes(self) -> int:
        """Resident memory of the process that the command started; 0 if it does not run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return int(psutil.Process(self.pid).memory_info().rss) if self.pid else 0
        return 0

    async def start(self) -> None:
        """Start it, unless it runs. Raises OSError."""
        if self.is_running:
            return
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process is not None and self.is_running:
            self._process.terminate()

    async def ended(self, rule: str) -> int:
        """Wait for its end; the exit code. Raises Failed."""
        assert self._process is not None, "start it first"  # noqa: S101
        try:
            async with asyncio.timeout(STOP_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            raise Failed(rule, f"the runner did not exit within {STOP_SECONDS:g} s") from None

    async def kill(self) -> None:
        """End it and what it started in its session."""
        if self._process is not None and self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    def last_words(self, lines: int = 10) -> str:
        """The end of what it printed."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
