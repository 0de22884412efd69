"""A real gateway in the test's process, before a real scheduler, and a client of it."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from runner_double import PATIENCE

from gateway import settings
from gateway.server import serve


@asynccontextmanager
async def before(address: str, **flags: object) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway before the scheduler at `address`, as a client that calls it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        configured = settings.read(scheduler=address, **flags)
        async with (
            serve(configured, listener) as running,
            httpx.AsyncClient(
                base_url=f"http://{running.address}", timeout=PATIENCE, trust_env=False
            ) as client,
        ):
            yield client


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str
    event: str
    data: Any


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream; comments are left out."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if not line and "data" in fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
