"""Stubs that make their calls by HTTP, through a gateway: what the tables ask by gRPC is asked of it too."""

from collections.abc import AsyncIterator, Generator
from typing import Any
from urllib.parse import quote

import httpx
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from gateway.routes import CONTRACTS, Route, routes_of
from gateway.templates import Variable
from visionmesh.errors import error_of

ROUTES = {route.method.name: route for route in routes_of(CONTRACTS)}
assert error_details_pb2.ErrorInfo.DESCRIPTOR  # its messages are in the details


class Unsayable(Exception):
    """What is asked for cannot be said by HTTP: a name that is no path, a value that JSON has not."""


class HttpStub:
    """The stub of any service."""

    def __init__(self, web: httpx.AsyncClient) -> None:
        self._web = web
        self.statuses: list[int] = []
        """HTTP status of every answer."""

    def __getattr__(self, method: str) -> Any:
        return lambda request, timeout=None: Call(self, ROUTES[method], request)

    async def ask(self, route: Route, request: Any) -> Any:
        """The answer: a message, or the bytes of a stream. Raises MeshError for one that is an error."""
        try:
            fields = json_format.MessageToDict(request, preserving_proto_field_name=True)
        except json_format.SerializeToJsonError as error:
            raise Unsayable(str(error)) from None
        path = "".join(_segment(part, fields) for part in route.template.parts)
        verb = f":{route.template.verb}" if route.template.verb else ""
        body = fields if route.body == "*" else fields.pop(route.body, {}) if route.body else None
        query = {} if route.body == "*" else fields
        answer = await self._web.request(route.verb, path + verb, params=query, json=body)
        self.statuses.append(answer.status_code)
        if answer.status_code != 200:
            raise error_of(json_format.ParseDict(answer.json(), status_pb2.Status()))
        if route.method.server_streaming:
            return answer.content
        return json_format.Parse(answer.content, GetMessageClass(route.method.output_type)())


def _segment(part: str | Variable, fields: dict[str, Any]) -> str:
    if isinstance(part, str):
        return part
    text = fields.pop(part.field, "")
    pieces, wanted = text.split("/"), part.pattern.split("/")
    if wanted[-1] == "**" and len(pieces) >= len(wanted):
        pieces = [*pieces[: len(wanted) - 1], "/".join(pieces[len(wanted) - 1 :])]
    fits = len(pieces) == len(wanted) and all(
        piece and want in ("*", "**", piece) for piece, want in zip(pieces, wanted, strict=True)
    )
    if not fits:
        raise Unsayable(text)
    return quote(text).replace("..", "%2E%2E")


class Call:
    """One call: awaited, or read to its end."""

    def __init__(self, stub: HttpStub, route: Route, request: Any) -> None:
        self._asked = stub.ask(route, request)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._asked.__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield await self._asked
