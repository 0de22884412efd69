"""Writes to a watcher, and cuts one that does not read.

A write waits as long as the watcher's buffers are full. gRPC cannot end a call while a message is
on its way, and its status would come behind that message anyhow: so a watcher that stalls gets
nothing more, and is told why as soon as it has read what it was sent (the interceptor waits for
that). Until then it costs one message, and nobody else waits for it.
"""

import asyncio
from typing import Any

import grpc

from visionmesh.errors import MeshError, Reason


class WatchWriter:
    """Writes the messages of one watch."""

    def __init__(self, context: "grpc.aio.ServicerContext[Any, Any]", stalled_seconds: float) -> None:
        self._context, self._stalled_seconds = context, stalled_seconds
        self._last_write = asyncio.get_running_loop().time()

    @property
    def quiet_seconds(self) -> float:
        """Time since the last message."""
        return asyncio.get_running_loop().time() - self._last_write

    async def accept(self) -> None:
        """Tell the caller that the watch has begun, which may be long before the first message."""
        await self._context.send_initial_metadata(())

    async def write(self, message: Any) -> None:
        """Send a message. Raises SLOW_CONSUMER if that takes too long."""
        try:
            async with asyncio.timeout(self._stalled_seconds):
                await self._context.write(message)
        except TimeoutError:
            raise MeshError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                Reason.SLOW_CONSUMER,
                f"Nothing was read for more than {self._stalled_seconds:g} s. "
                "Resume after the last message received.",
            ) from None
        self._last_write = asyncio.get_running_loop().time()
