"""A running job process, as the agent holds it."""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass

from runners.process.framing import encode
from visionmesh.v1 import process_pb2

_BUFFER_BYTES = 256 * 1024


class LaunchFailed(Exception):
    """No job process could be started; the runner is to blame, not the job."""


@dataclass
class Pipes:
    """The three pipes of a job process; none survives an exec unless it is handed over."""

    events: tuple[int, int]
    commands: tuple[int, int]
    output: tuple[int, int]

    @classmethod
    def open(cls) -> "Pipes":
        """Make them, each as (read end, write end)."""
        return cls(os.pipe(), os.pipe(), os.pipe())

    @property
    def for_job(self) -> tuple[int, int, int]:
        """The job's ends: events, commands, output."""
        return self.events[1], self.commands[0], self.output[1]

    def close_job_ends(self) -> None:
        """Close what the job process has taken over."""
        for fd in self.for_job:
            os.close(fd)

    def close_agent_ends(self) -> None:
        """Close the rest, if nobody has taken it over."""
        for fd in (self.events[0], self.commands[1], self.output[0]):
            os.close(fd)


class JobProcess:
    """Leads its own session and process group, and waits for the start."""

    def __init__(self, pid: int, exited: "asyncio.Future[int | None]") -> None:
        """`exited` becomes the exit code, negative for a signal, or None if that cannot be known."""
        self.pid, self.exited = pid, exited
        self.events: asyncio.StreamReader
        """Delimited ProcessEvents."""
        self.output: asyncio.StreamReader
        """What it prints."""
        self._transports: list[asyncio.ReadTransport] = []
        self._commands = -1

    async def connect(self, pipes: Pipes) -> None:
        """Take over the agent's ends of the pipes."""
        self._commands = pipes.commands[1]
        os.set_blocking(self._commands, False)
        self.events = await self._reader(pipes.events[0])
        self.output = await self._reader(pipes.output[0])

    async def _reader(self, fd: int) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER_BYTES, loop=loop)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
            os.fdopen(fd, "rb", buffering=0),
        )
        self._transports.append(transport)
        return reader

    def start(self) -> None:
        """Let it begin."""
        self._send(process_pb2.ProcessCommand(start=process_pb2.Start()))

    def stop(self, why: str) -> None:
        """Ask it to stop at the next batch."""
        self._send(process_pb2.ProcessCommand(stop=process_pb2.Stop(reason=why)))

    def _send(self, command: process_pb2.ProcessCommand) -> None:
        with contextlib.suppress(OSError):  # it has ended, or has not read for 64 KiB
            os.write(self._commands, encode(command))

    def kill(self) -> None:
        """SIGKILL to its process group: to it and to what it has started."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes."""
        for transport in self._transports:
            transport.close()
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1
