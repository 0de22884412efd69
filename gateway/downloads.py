"""Files: google.api.HttpBody as it is, whole or in part, with what HTTP says of files.

The first piece carries the content type and, as an extension, a message that describes the file: any with
`size_bytes` and `sha256`, such as Artifact. A request with `read_offset` can begin anywhere.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf import symbol_database
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import errors, ranges
from gateway.context import Context
from gateway.presence import first_of, until_gone, while_present
from gateway.ranges import File, Span
from gateway.routes import Route
from gateway.unary import message_of
from visionmesh.errors import MeshError, Reason


@dataclass(frozen=True)
class Opened:
    """A call that has sent its first piece."""

    call: Any
    first: Any
    """A google.api.HttpBody."""

    facts: Message | None
    """What describes the file."""

    @property
    def file(self) -> File | None:
        """Size and digest, where they are told."""
        if self.facts is None:
            return None
        facts: Any = self.facts
        return File(facts.size_bytes, f'"{facts.sha256}"' if facts.sha256 else "")


async def download(context: Context, route: Route, fields: dict[str, str], request: Request) -> Response:
    """Answer with the file, or the part of it that is asked for. Raises MeshError and grpc.RpcError."""
    asked = await message_of(context, route, fields, request)

    async def opened() -> Opened:
        return await _open(context.calls.reading(route, asked, request.headers))

    found = await while_present(request.receive, opened())
    if found.file is None:
        return FileResponse(found, 200, _headers(found), None)
    if ranges.is_known(request.headers, found.file):
        found.call.cancel()
        return Response(status_code=304, headers=_headers(found))
    try:
        span = _span(request, asked, found.file)
    except ranges.Unsatisfiable:
        found.call.cancel()
        return _unsatisfiable(found.file)
    if span is not None and span.start:
        found.call.cancel()
        asked.read_offset = span.start
        found = await while_present(request.receive, opened())
    return _response(found, span, asked)


def _span(request: Request, asked: Any, file: File) -> Span | None:
    """The part to send. A read_offset in the query is the caller's own way to say it."""
    if "read_offset" not in asked.DESCRIPTOR.fields_by_name or asked.read_offset:
        return None
    return ranges.span_of(request.headers, file)


def _response(found: Opened, span: Span | None, asked: Any) -> Response:
    headers, file = _headers(found), found.file or File(0, "")
    if span is None:
        size = file.size_bytes - getattr(asked, "read_offset", 0)
        return FileResponse(found, 200, {**headers, "Content-Length": str(size)}, size)
    headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(span.size_bytes)
    return FileResponse(found, 206, headers, span.size_bytes)


async def _open(call: Any) -> Opened:
    try:
        first = await call.read()
    except BaseException:
        call.cancel()
        raise
    if first is grpc.aio.EOF:
        raise MeshError(grpc.StatusCode.INTERNAL, Reason.INTERNAL, "The scheduler sent nothing of the file.")
    return Opened(call, first, _facts(first))


def _facts(first: Any) -> Message | None:
    for packed in first.extensions:
        try:
            kind = symbol_database.Default().GetSymbol(packed.TypeName())
        except KeyError:
            continue
        facts = kind()
        if packed.Unpack(facts) and {"size_bytes", "sha256"} <= set(facts.DESCRIPTOR.fields_by_name):
            return facts
    return None


def _headers(found: Opened) -> dict[str, str]:
    headers = {
        "Content-Type": found.first.content_type or "application/octet-stream",
        "X-Content-Type-Options": "nosniff",  # a file of a job is no page of ours
        "Content-Security-Policy": "sandbox",
    }
    facts: Any = found.facts
    if found.file is not None:
        headers |= {"Accept-Ranges": "bytes", "ETag": found.file.etag}
        headers["Content-Disposition"] = _disposition(getattr(facts, "uri", "") or getattr(facts, "name", ""))
    return headers


def _disposition(uri: str) -> str:
    name = uri.rpartition("/")[2]
    return f"attachment; filename*=UTF-8''{quote(name)}" if name else "attachment"


def _unsatisfiable(file: File) -> Response:
    text = f"The file has {file.size_bytes} bytes, none of them in that range. Ask for less."
    error = MeshError(grpc.StatusCode.OUT_OF_RANGE, Reason.OUT_OF_RANGE, text)
    return errors.refused(error, 416, {"Content-Range": f"bytes */{file.size_bytes}"})


class FileResponse(Response):
    """The bytes of a call, up to a limit, for as long as the client is there.

    A file that breaks off ends without its last byte: the client sees that it is not complete.
    """

    def __init__(self, found: Opened, status: int, headers: dict[str, str], limit_bytes: int | None) -> None:
        super().__init__(status_code=status, headers=headers)
        if "Content-Length" not in headers:
            del self.headers["content-length"]
        self._found, self._limit = found, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send headers, then pieces as fast as they are taken."""
        sending = asyncio.ensure_future(self._send_all(send, scope["method"] == "HEAD"))
        try:
            await first_of(sending, asyncio.ensure_future(until_gone(receive)))
        finally:
            self._found.call.cancel()
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, send: Send, head_only: bool) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not head_only:
            async for piece in self._pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncIterator[bytes]:
        left, message = self._limit, self._found.first
        while message is not grpc.aio.EOF and left != 0:
            piece = message.data if left is None else message.data[:left]
            left = None if left is None else left - len(piece)
            if piece:
                yield piece
            message = await self._found.call.read() if left != 0 else message
