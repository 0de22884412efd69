"""One place where requests are checked and errors become statuses.

Every unary request is validated against its protovalidate rules. A MeshError ends the call with
its google.rpc.Status; anything else with INTERNAL and an id to look up in the log. Requests that
cannot be decoded are INVALID_ARGUMENT, where gRPC itself would say UNKNOWN, and those that are too
large are refused here with a reason, where gRPC would cut the call without one.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from scheduler.admission import violations_of
from scheduler.oversize import too_large
from scheduler.store.passing import objects_away
from visionmesh.errors import MeshError, Reason, invalid_fields, status_of
from visionmesh.limits import MAX_REQUEST_BYTES
from visionmesh.storage import StoreError

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

log = structlog.get_logger(__name__)


class _Unreadable:
    """Stands for a request that nobody should see: it is too large, or not what its type says."""

    def __init__(self, error: MeshError) -> None:
        self.error = error


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the server."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return the handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/visionmesh."):
            return handler
        return _wrap(handler, handler_call_details.method)


def _wrap(handler: Any, method: str) -> Handler:
    deserializer = _tolerant(handler.request_deserializer)
    serializer = _unless_done(handler.response_serializer)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _call(handler.stream_stream, method, _stream_checked), deserializer, serializer
        )
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(
            _call(handler.stream_unary, method, _stream_checked), deserializer, serializer
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _call(handler.unary_stream, method, _checked), deserializer, serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        _call(handler.unary_unary, method, _checked), deserializer, serializer
    )


def _call(behavior: Any, method: str, check: Callable[[Any], Any]) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        writer = _Writer(context)
        try:
            response = await behavior(check(request), writer)
            await writer.written()
            return response
        except MeshError as error:
            await writer.abort(error)
        except StoreError as error:
            log.warning("object store away", method=method, why=str(error))
            await writer.abort(objects_away(error))
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:
            await writer.abort(_internal(method))

    return call


class _Writer:
    """A call's context that ends the call when its last message is on its way, and not before.

    gRPC cannot do both at once: the status would be lost, and the caller would wait for ever. A task
    that is cancelled in the middle of a write leaves the write behind, so it is waited for here.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._last: asyncio.Future[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Send a message; one at a time."""
        self._last = asyncio.ensure_future(self._context.write(message))
        self._last.add_done_callback(_look_at)
        await asyncio.shield(self._last)

    async def written(self) -> None:
        """Wait until nothing is being written."""
        if self._last is not None and not self._last.done():
            await asyncio.wait({self._last})

    async def abort(self, error: MeshError) -> None:
        """End the call with what went wrong."""
        await self.written()
        await self._context.abort_with_status(rpc_status.to_status(status_of(error)))


def _look_at(written: "asyncio.Future[None]") -> None:
    """A write that fails when nobody waits for it any more is no news: its call is gone."""
    if not written.cancelled():
        written.exception()


def _internal(method: str) -> MeshError:
    incident = secrets.token_hex(6)
    log.exception("call failed", method=method, incident=incident)
    message = (
        "The scheduler failed on this call, and that is no fault of the request. Try again; if it fails "
        f"again, whoever runs the scheduler finds out why in its log, under {incident}."
    )
    return MeshError(grpc.StatusCode.INTERNAL, Reason.INTERNAL, message, {"incident": incident})


def _tolerant(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def deserialize(raw: bytes) -> Any:
        if len(raw) > MAX_REQUEST_BYTES:
            return _Unreadable(_oversized(len(raw)))
        try:
            return deserializer(raw)
        except DecodeError:
            return _Unreadable(_undecodable())

    return deserialize


def _unless_done(serializer: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """What many watchers are sent is serialized once for all of them."""
    return lambda message: message if isinstance(message, bytes) else serializer(message)


def _oversized(size: int) -> MeshError:
    return too_large("", "The request", size, MAX_REQUEST_BYTES, "Send less at once; upload files instead.")


def _undecodable() -> MeshError:
    message = "The request cannot be decoded. Generate the client from this server's protos and try again."
    return MeshError(grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT, message)


def _decoded(request: Any) -> Message:
    if isinstance(request, _Unreadable):
        raise request.error
    if not isinstance(request, Message):
        raise TypeError(f"not a message: {type(request).__name__}")
    return request


def _checked(request: Any) -> Message:
    message = _decoded(request)
    check(message)
    return message


async def _stream_checked(requests: AsyncIterator[Any]) -> AsyncIterator[Message]:
    async for request in requests:
        yield _decoded(request)


def check(message: Message) -> None:
    """Raise INVALID_ARGUMENT if `message` breaks a protovalidate rule."""
    violations = violations_of(message)
    if violations:
        raise invalid_fields(Reason.INVALID_ARGUMENT, violations)
