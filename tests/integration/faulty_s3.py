"""A bad way to a good S3: a proxy that refuses, delays, cuts, slows down and flips what goes through it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_CHUNK = 64 * 1024
_SMALL = 1024
"""Bodies of so many bytes are neither cut, flipped nor slowed down on their way back."""

_SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
_SLOW_DOWN_BODY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class Fault:
    """What is done to requests whose first line fits, the first `times` of them."""

    kind: str
    """refuse: 503; cut: half of the answer, then a reset; lose: the request is done, its answer reset;
    flip_answer, flip_request: one bit of the body; slow: 64 KiB of a body every 20 ms; hang: nothing."""

    line: str = "."
    """Pattern of the request's first line, such as "GET .*weights"."""

    times: int = 1_000_000

    struck: int = 0
    """How often it was done."""


class _Hurt(Exception):
    """The connection is to be reset."""


@dataclass
class FaultyS3:
    """The proxy; it does its one fault, if it has any."""

    endpoint: str
    """What clients are told."""

    upstream: int
    """Port of the server on this machine."""

    fault: Fault | None = None
    lines: list[str] = field(default_factory=list)
    """First lines of the requests, with their Range."""

    def _strike(self, kinds: str, line: str) -> Fault | None:
        fault = self.fault
        if fault is None or fault.kind not in kinds.split() or not re.search(fault.line, line):
            return None
        if fault.struck >= fault.times:
            return None
        fault.struck += 1
        return fault

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            while await self._exchange(reader, writer, server_reader, server_writer):
                pass
        except (_Hurt, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, server_writer):
                end.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; whether another may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        line = _noted(head)
        self.lines.append(line)
        if self._strike("refuse", line):
            writer.write(_SLOW_DOWN % len(_SLOW_DOWN_BODY) + _SLOW_DOWN_BODY)
            await writer.drain()
            writer.write_eof()
            await reader.read()  # until the client has gone: a reset could overtake the answer
            return False
        if self._strike("hang", line):
            await reader.read()
            return False
        server_writer.write(head)
        sending = asyncio.create_task(self._send(head, line, reader, server_writer))
        try:
            while await self._answer(line, server_reader, writer):
                pass
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return b"connection: close" not in head.lower()

    async def _send(
        self, head: bytes, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = _length(head)
        flipped = left and self._strike("flip_request", line)
        slow = left > _SMALL and self._strike("slow", line)
        while left:
            chunk = await reader.read(min(left, _CHUNK))
            if not chunk:
                raise ConnectionResetError
            writer.write(_flip(chunk) if flipped else chunk)
            flipped, left = None, left - len(chunk)
            await writer.drain()
            if slow:
                await asyncio.sleep(0.02)

    async def _answer(self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass on one answer; whether it was a preliminary one."""
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 100 " in head.split(b"\r\n")[0]:
            writer.write(head)
            return True
        body = 0 if line.startswith("HEAD") else _length(head)
        if self._strike("lose", line):
            await reader.readexactly(body)
            raise _Hurt
        writer.write(head)
        if b"transfer-encoding: chunked" in head.lower():
            while (piece := await reader.readuntil(b"\r\n")) != b"0\r\n":
                writer.write(piece + await reader.readexactly(int(piece, 16) + 2))
            writer.write(piece + await reader.readexactly(2))
        await self._body(line, body, reader, writer)
        await writer.drain()
        return False

    async def _body(
        self, line: str, left: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault = self._strike("cut flip_answer slow", line) if left > _SMALL else None
        half = left // 2
        while left:
            chunk = await reader.readexactly(min(left, _CHUNK))
            left -= len(chunk)
            if fault and fault.kind == "flip_answer":
                chunk, fault = _flip(chunk), None
            if fault and fault.kind == "cut" and left <= half:
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                raise _Hurt
            writer.write(chunk)
            await writer.drain()
            if fault and fault.kind == "slow":
                await asyncio.sleep(0.02)


def _noted(head: bytes) -> str:
    line = head.split(b"\r\n")[0].decode()
    found = re.search(rb"(?i)\r\nrange: ([^\r]*)", head)
    return f"{line} {found[1].decode()}" if found else line


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


def _flip(chunk: bytes) -> bytes:
    return bytes([chunk[0] ^ 1]) + chunk[1:]


@asynccontextmanager
async def faulty(upstream: int) -> AsyncIterator[FaultyS3]:
    """A proxy before the server at that port of this machine."""
    proxy = FaultyS3("", upstream)
    open_now: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        open_now.add(task)
        task.add_done_callback(open_now.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**20)
    proxy.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
