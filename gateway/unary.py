"""One JSON request, one JSON answer."""

from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.presence import while_present
from gateway.requests import request_of
from gateway.routes import Route
from visionmesh.errors import MeshError, Reason


async def answer(context: Context, route: Route, fields: dict[str, str], request: Request) -> Response:
    """Make the call, and answer with its response as JSON. Raises MeshError and grpc.RpcError."""
    asked = await message_of(context, route, fields, request)

    async def called() -> Message:
        response: Message = await context.calls.unary(route, asked, request.headers)
        return response

    response = await while_present(request.receive, called())
    return Response(json_of(_shown(route, response)), media_type="application/json")


async def message_of(context: Context, route: Route, fields: dict[str, str], request: Request) -> Any:
    """The request that a call of `route` makes. Raises INVALID_ARGUMENT and MESSAGE_TOO_LARGE."""
    body = await _body(request, context.settings.max_body_bytes)
    return request_of(route, fields, request.query_params.multi_items(), body)


async def _body(request: Request, limit_bytes: int) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def too_large(limit_bytes: int) -> MeshError:
    """RESOURCE_EXHAUSTED: the gateway takes no such body."""
    text = f"The body is larger than {limit_bytes} bytes. Upload files at /v1/uploads, and name the upload."
    facts = {"limit_bytes": str(limit_bytes)}
    return MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, text, facts)


def _shown(route: Route, response: Message) -> Any:
    return getattr(response, route.response_body) if route.response_body else response


def json_of(response: Message) -> str:
    """A message as JSON in one line. Numbers that are 0 and lists that are empty are there."""
    return json_format.MessageToJson(response, always_print_fields_with_no_presence=True, indent=None)
