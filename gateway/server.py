"""Runs the application on uvicorn, and stops it within a second, streams and all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from gateway.app import gateway
from gateway.settings import Settings

MAX_HEAD_BYTES = 64 * 1024
"""Largest request line and headers together."""

GRACE_SECONDS = 1
"""Time that requests have to end when the gateway stops; streams are ended at once."""


@dataclass(frozen=True)
class Running:
    """A gateway that serves."""

    address: str
    """host:port"""


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.serving.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@asynccontextmanager
async def serve(settings: Settings, listener: socket.socket) -> AsyncIterator[Running]:
    """Serve on a bound socket until the context is left."""
    async with gateway(settings) as app:
        server = _Server(_config(app))
        task = asyncio.create_task(server.serve([listener]))
        try:
            await server.serving.wait()
            host, port = listener.getsockname()[:2]
            yield Running(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        finally:
            app.state.stopping.set()
            server.should_exit = True
            await task


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="h11",
        ws="none",
        lifespan="off",
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=GRACE_SECONDS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
