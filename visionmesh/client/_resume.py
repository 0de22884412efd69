"""Streams that go on where they were cut."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

import grpc

from visionmesh.client._connection import Connection
from visionmesh.client._errors import is_interruption
from visionmesh.errors import MeshError

Position = TypeVar("Position")
Request = TypeVar("Request")
Response = TypeVar("Response")

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0


class Backoff:
    """Waits between tries: doubling, with full jitter, until `patience` seconds brought nothing."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._delay = _FIRST_DELAY
        self._since: float | None = None

    def reset(self) -> None:
        """Something arrived: begin again with short waits."""
        self._delay, self._since = _FIRST_DELAY, None

    async def wait(self, error: MeshError) -> None:
        """Wait before the next try; raises `error` when patience is over."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        delay = random.uniform(0, self._delay)  # noqa: S311 - jitter, no secret
        if error.retry_delay is not None:
            delay += error.retry_delay.total_seconds()
        if now + delay > self._since + self._patience:
            raise error
        self._delay = min(self._delay * 2, _LONGEST_DELAY)
        await asyncio.sleep(delay)


async def resuming(
    connection: Connection,
    open_call: Callable[[Position], grpc.aio.UnaryStreamCall[Request, Response]],
    position: Position,
    advance: Callable[[Position, Response], Position],
    patience: float,
) -> AsyncGenerator[Response, None]:
    """The messages of a server stream, opened again at the newest position whenever it is cut.

    Ends when the server ends the stream. Raises MeshError for what another try would not mend,
    and for an interruption that outlasts `patience` seconds, or that comes before the mesh has
    ever answered.
    """
    backoff = Backoff(patience)
    while True:
        try:
            async with aclosing(connection.responses(open_call(position))) as responses:
                async for response in responses:
                    backoff.reset()
                    position = advance(position, response)
                    yield response
            return
        except MeshError as error:
            if not connection.reached or not is_interruption(error):
                raise
            await backoff.wait(error)
