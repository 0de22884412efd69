"""Health and reflection, as any tool of gRPC's world asks for them."""

import asyncio

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from live_scheduler import Mesh
from runner_double import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

OURS = {f"visionmesh.v1.{name}Service" for name in ("Job", "Progress", "Result", "Runner", "Dataset")}


async def test_health_is_checked_listed_and_watched(mesh: Mesh) -> None:
    stub = health_pb2_grpc.HealthStub(mesh.channel)
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    for service in ("", *OURS):
        assert await stub.Check(health_pb2.HealthCheckRequest(service=service)) == serving
    listed = await stub.List(health_pb2.HealthListRequest())
    assert set(listed.statuses) >= OURS
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(PATIENCE):
        assert await watch.read() == serving
    watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_services_and_describes_them(mesh: Mesh, version: str) -> None:
    method = mesh.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = method()
    async with asyncio.timeout(PATIENCE):
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = await call.read()
        names = {service.name for service in listed.list_services_response.service}
        assert {*OURS, "grpc.health.v1.Health"} <= names
        for name in sorted(names):
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
            described = await call.read()
            assert described.file_descriptor_response.file_descriptor_proto, name
    call.cancel()
