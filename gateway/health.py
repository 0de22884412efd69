"""/healthz: this process answers. /readyz: the scheduler behind it does too."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import errors
from visionmesh.errors import MeshError, Reason

_PATIENCE = 2.0
"""Seconds that the scheduler has to answer."""


def health_routes(channel: grpc.aio.Channel, address: str) -> list[Route]:
    """The routes of both."""
    health = health_pb2_grpc.HealthStub(channel)

    async def ready(request: Request) -> Response:
        try:
            told = await health.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE)
        except grpc.RpcError as error:
            status = errors.status_of_call(error, address)
            return errors.response_of(status, 503)
        if told.status == health_pb2.HealthCheckResponse.SERVING:
            return JSONResponse({"status": "SERVING"})
        return errors.refused(_not_serving(address))

    return [Route("/healthz", _alive), Route("/readyz", ready)]


async def _alive(request: Request) -> Response:
    return JSONResponse({"status": "SERVING"})


def _not_serving(address: str) -> MeshError:
    text = f"The scheduler at {address} does not serve at present: it starts, stops, or its database is away."
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, f"{text} Try again soon.")
