"""A pipe through which a process tells, as one line of JSON, that it serves or why it does not."""

import asyncio
import json
import os
from types import TracebackType
from typing import Any, Self


class ReadyPipe:
    """Enter it, hand `write_fd` to the process, and call `told`."""

    write_fd: int

    def __enter__(self) -> Self:
        self._read_fd, self.write_fd = os.pipe()
        self._is_open = True
        return self

    def close_ours(self) -> None:
        """Close our copy of the writing end: the end of the process then ends the pipe."""
        if self._is_open:
            os.close(self.write_fd)
            self._is_open = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_ours()
        os.close(self._read_fd)

    async def told(self) -> dict[str, Any] | None:
        """What the process tells; None if it has ended without a word."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(self._read_fd), "rb")
        )
        try:
            line = await reader.readline()
        finally:
            transport.close()
        message: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return message
