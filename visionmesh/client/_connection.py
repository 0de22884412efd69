"""One channel to the mesh: how it is set up, and how calls on it fail."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Protocol, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from visionmesh.client._errors import translate
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

Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # a page of predictions with masks


class PagedRequest(Protocol):
    """A request of a List call."""

    page_token: str


class PagedResponse(Protocol):
    """A response of a List call."""

    next_page_token: str


PagedReq = TypeVar("PagedReq", bound=PagedRequest)
PagedResp = TypeVar("PagedResp", bound=PagedResponse)


class Connection:
    """A channel with the stubs of every service."""

    address: str
    """Where it was told to go."""

    reached: bool
    """Whether anything was ever answered: an interruption is not the same as nobody there."""

    def __init__(self, address: str, timeout: float) -> None:
        self.address = address
        self.reached = False
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(address, options=channel_options(address))
        channel = self._channel
        self.jobs: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
        self.progress: progress_pb2_grpc.ProgressServiceAsyncStub = progress_pb2_grpc.ProgressServiceStub(
            channel
        )
        self.results: result_pb2_grpc.ResultServiceAsyncStub = result_pb2_grpc.ResultServiceStub(channel)
        self.runners: runner_pb2_grpc.RunnerServiceAsyncStub = runner_pb2_grpc.RunnerServiceStub(channel)
        self.datasets: dataset_pb2_grpc.DatasetServiceAsyncStub = dataset_pb2_grpc.DatasetServiceStub(channel)

    async def close(self) -> None:
        """Cancel what is under way and close the channel."""
        await self._channel.close()

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        """The answer to `request`; `timeout` in seconds, the connection's own by default."""
        try:
            response = await method(request, timeout=timeout or self._timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.address) from error
        self.reached = True
        return response

    async def responses(
        self, call: grpc.aio.UnaryStreamCall[Request, Response]
    ) -> AsyncGenerator[Response, None]:
        """The messages of a server stream; leaving early cancels it."""
        try:
            async for response in call:
                self.reached = True
                yield response
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.address) from error
        finally:
            call.cancel()

    async def pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[PagedReq, PagedResp],
        request: PagedReq,
        items: Callable[[PagedResp], Iterable[Item]],
    ) -> AsyncIterator[Item]:
        """The items of every page, fetched as they are asked for."""
        while True:
            response = await self.unary(method, request)
            for item in items(response):
                yield item
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token


def channel_options(address: str) -> list[tuple[str, str | int]]:
    """Options of a client's channel; the keepalive notices a frozen peer after 13 s (FAULTS.md)."""
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(service_config())),
        ("grpc.enable_retries", 1),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 3_000),
        ("grpc.http2.ping_timeout_ms", 3_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A restarted scheduler is found again within seconds; the default backoff grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 3_000),
        ("grpc.use_local_subchannel_pool", 1),  # else clients of one process share that backoff
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ]
    if address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
        options.append(("grpc.enable_http_proxy", 0))  # this machine is not behind its own proxy
    return options


def service_config() -> dict[str, object]:
    """The gRPC service config: replicas in turn, retries where a repeated call is harmless."""
    names = [
        {"service": service.full_name, "method": method.name}
        for service in _services()
        for method in service.methods
        if _is_repeatable(method)
    ]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": names, "retryPolicy": retry}],
    }


def _services() -> list[ServiceDescriptor]:
    files = (job_pb2, progress_pb2, result_pb2, runner_pb2, dataset_pb2)
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


def _is_repeatable(method: MethodDescriptor) -> bool:
    """A unary call that reads, or that carries a request_id by which the server knows a repetition."""
    if method.client_streaming or method.server_streaming:
        return False
    reads = method.name.startswith(("Get", "List", "Explain"))
    return reads or "request_id" in method.input_type.fields_by_name
