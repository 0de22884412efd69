"""grpc.health.v1 with List, which the library's asynchronous servicer lacks."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer as LibraryHealthServicer

SERVICES = (
    "",
    "visionmesh.v1.JobService",
    "visionmesh.v1.ProgressService",
    "visionmesh.v1.ResultService",
    "visionmesh.v1.RunnerService",
    "visionmesh.v1.DatasetService",
)


class HealthServicer(LibraryHealthServicer):  # type: ignore[misc]
    """Check, Watch and List."""

    async def List(
        self, request: health_pb2.HealthListRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> health_pb2.HealthListResponse:
        """The status of every service."""
        statuses = {
            service: await self.Check(health_pb2.HealthCheckRequest(service=service), context)
            for service in SERVICES
        }
        return health_pb2.HealthListResponse(statuses=statuses)

    async def serve(self) -> None:
        """Report every service as serving."""
        for service in SERVICES:
            await self.set(service, health_pb2.HealthCheckResponse.SERVING)


def add_health(server: grpc.aio.Server) -> HealthServicer:
    """Add the service to a server."""
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer
