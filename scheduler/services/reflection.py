"""Server reflection under both names: clients old and new ask for different ones."""

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from scheduler.services.health import SERVICES

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = reflection.SERVICE_NAME


def add_reflection(server: grpc.aio.Server) -> None:
    """Serve reflection v1 and v1alpha; their messages are the same on the wire."""
    shown = [*(service for service in SERVICES if service), "grpc.health.v1.Health", V1ALPHA]
    servicer = ReflectionServicer(service_names=shown)
    for name in (V1, V1ALPHA):
        method = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=ServerReflectionRequest.FromString,
            response_serializer=ServerReflectionResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))
