"""One process of a local mesh: started with its log, told when it is ready, stopped or killed."""

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_BOUND = Path(__file__).with_name("_bound.py")
_LOG_TAIL_LINES = 15


class LocalProcess:
    """A process of the mesh with its log file."""

    def __init__(self, title: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.title = title
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls, title: str, arguments: list[str], log: Path, pass_fds: Sequence[int] = ()
    ) -> "LocalProcess":
        """Start `python -m arguments…` in a session of its own, so that Ctrl-C reaches only us.

        It ends with us even if we are killed.
        """
        bound = [sys.executable, "-I", "-S", str(_BOUND), str(os.getpid())]
        with await asyncio.to_thread(log.open, "ab") as output:
            process = await asyncio.create_subprocess_exec(
                *bound,
                *(sys.executable, "-m", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
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
            with suppress(ProcessLookupError):
                self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """SIGKILL to its session, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _tail(log: Path) -> str:
    with log.open(errors="replace") as file:
        return "".join(deque(file, _LOG_TAIL_LINES)).rstrip() or "(empty)"
