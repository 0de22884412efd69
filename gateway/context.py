"""What every endpoint has at hand."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from gateway.calls import Calls
from gateway.routes import Route
from gateway.settings import Settings


@dataclass(frozen=True)
class Context:
    """One running gateway."""

    settings: Settings
    """How it is set up."""

    calls: Calls
    """The way to the scheduler."""

    stopping: asyncio.Event
    """Set when the gateway is about to stop: streams end."""


Endpoint: TypeAlias = Callable[[Context, Route, dict[str, str], Request], Awaitable[Response]]
"""Answers a request for a route, with the fields that its path gives. Raises MeshError and grpc.RpcError."""
