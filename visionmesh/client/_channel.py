"""How a channel to the mesh is set up, and the stubs on it."""

import json
import os
from functools import cache

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from visionmesh.v1 import (
    dataset_pb2,
    dataset_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
)

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where the mesh is looked for when neither the caller nor VISIONMESH_ADDRESS says."""

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # a page of predictions with masks


def default_address() -> str:
    """Where the mesh is looked for when the caller does not say."""
    return os.environ.get("VISIONMESH_ADDRESS") or DEFAULT_ADDRESS


class Stubs:
    """The stubs of every service on one channel.

    Their types are those of a synchronous channel; whoever has an asynchronous one knows better.
    """

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        self.jobs: job_pb2_grpc.JobServiceStub = job_pb2_grpc.JobServiceStub(channel)
        self.progress: progress_pb2_grpc.ProgressServiceStub = progress_pb2_grpc.ProgressServiceStub(channel)
        self.results: result_pb2_grpc.ResultServiceStub = result_pb2_grpc.ResultServiceStub(channel)
        self.runners: runner_pb2_grpc.RunnerServiceStub = runner_pb2_grpc.RunnerServiceStub(channel)
        self.datasets: dataset_pb2_grpc.DatasetServiceStub = dataset_pb2_grpc.DatasetServiceStub(channel)


def channel_options(address: str) -> list[tuple[str, str | int]]:
    """Options of a client's channel; it notices a dead link after 13 s, a frozen peer after 20 s."""
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(service_config())),
        ("grpc.enable_retries", 1),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 3_000),
        # The answer to a ping queues behind what a slow link has yet to carry: 4 s at 256 kbit/s.
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A restarted scheduler is found again within a second; the default backoff grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.use_local_subchannel_pool", 1),  # else clients of one process share that backoff
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ]
    if address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
        options.append(("grpc.enable_http_proxy", 0))  # this machine is not behind its own proxy
    return options


def service_config() -> dict[str, object]:
    """The gRPC service config: replicas in turn, retries where a repeated call is harmless."""
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": list(_repeatable().values()), "retryPolicy": retry}],
    }


def _services() -> list[ServiceDescriptor]:
    files = (job_pb2, progress_pb2, result_pb2, runner_pb2, dataset_pb2)
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


def is_repeatable(request: object) -> bool:
    """Whether the unary call that sends `request` does no harm when it is made twice."""
    return type(request).__name__ in _repeatable()


@cache
def _repeatable() -> dict[str, dict[str, str]]:
    """Unary calls that read, or that carry a request_id by which the server knows a repetition.

    By the name of what they send, as the service config names methods.
    """
    return {
        method.input_type.name: {"service": service.full_name, "method": method.name}
        for service in _services()
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
        if method.name.startswith(("Get", "List", "Explain"))
        or "request_id" in method.input_type.fields_by_name
    }
