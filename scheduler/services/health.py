"""grpc.health.v1 with List, which the library's asynchronous servicer lacks.

Every service, and the whole (the empty name), is SERVING while the database answers. "liveness" is
SERVING as long as the process is: a scheduler that is started anew gets no database back by that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer as LibraryHealthServicer

from visionmesh.errors import MeshError

LIVENESS = "liveness"

SERVICES = (
    "",
    "visionmesh.v1.JobService",
    "visionmesh.v1.ProgressService",
    "visionmesh.v1.ResultService",
    "visionmesh.v1.RunnerService",
    "visionmesh.v1.DatasetService",
)

LOOK_SECONDS = 1.0
"""Time from one look at the database to the next."""

ANSWER_SECONDS = 5.0
"""Time after which a database that says nothing is away."""

log = structlog.get_logger(__name__)


class HealthServicer(LibraryHealthServicer):  # type: ignore[misc]
    """Check, Watch and List."""

    def __init__(self) -> None:
        super().__init__()
        self._why_not = ""

    async def List(
        self, request: health_pb2.HealthListRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> health_pb2.HealthListResponse:
        """The status of every service."""
        statuses = {
            service: await self.Check(health_pb2.HealthCheckRequest(service=service), context)
            for service in (*SERVICES, LIVENESS)
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    async def serve(self) -> None:
        """Report every service as serving."""
        await self.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._set_all(health_pb2.HealthCheckResponse.SERVING)

    async def follow(self, check: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Report what `check` finds, until cancelled; it raises MeshError while the database is away."""
        while True:
            looking = asyncio.create_task(check())
            try:
                done, _ = await asyncio.wait({looking}, timeout=ANSWER_SECONDS)
                if not done:
                    await self._report("The database does not answer.")
                await self._report(await _why_not(looking))
            finally:
                looking.cancel()
            await asyncio.sleep(LOOK_SECONDS)

    async def _report(self, why_not: str) -> None:
        if self._why_not and not why_not:
            log.info("serving again")
            await self._set_all(health_pb2.HealthCheckResponse.SERVING)
        elif why_not and not self._why_not:
            log.warning("not serving", why=why_not)
            await self._set_all(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._why_not = why_not

    async def _set_all(self, status: "health_pb2.HealthCheckResponse.ServingStatus.ValueType") -> None:
        for service in SERVICES:
            await self.set(service, status)


async def _why_not(looking: Awaitable[None]) -> str:
    """What is wrong; empty if nothing is."""
    try:
        await looking
    except MeshError as error:
        return error.message
    return ""


def add_health(server: grpc.aio.Server) -> HealthServicer:
    """Add the service to a server."""
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer
