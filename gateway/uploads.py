"""Files that come in: a form, or bytes as they are. They go on piece by piece; none is held as a whole.

An RPC whose requests are a header and then pieces takes both. The header's fields are query parameters or
parts of the form, by the names of the contract or of JSON; the file's name may come from the form's file, or
from Content-Disposition.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from email.message import Message as HeaderMessage
from typing import Any, TypeAlias

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.requests import Request
from starlette.responses import Response

from gateway.context import Context
from gateway.multipart import Form
from gateway.requests import header_of
from gateway.routes import Route, upload_parts
from gateway.sending import sent
from gateway.unary import json_of
from visionmesh.errors import Reason, invalid
from visionmesh.limits import MAX_CHUNK_BYTES

FORM = "multipart/form-data"

Pairs: TypeAlias = Sequence[tuple[str, str]]


async def upload(context: Context, route: Route, fields: dict[str, str], request: Request) -> Response:
    """Send the file on, and answer with the response as JSON. Raises MeshError and grpc.RpcError."""
    given: Pairs = [*fields.items(), *request.query_params.multi_items()]
    body = request.stream()
    if request.headers.get("content-type", "").startswith(FORM):
        form = Form(body, request.headers["content-type"])
        await form.read_fields()
        if form.filename is None:
            raise invalid(
                Reason.INVALID_ARGUMENT, "body", "The form has no file. Add a part with a filename."
            )
        given = [*given, *form.fields]
        pieces, filename = form.pieces(), form.filename
    else:
        pieces, filename = body, _filename(request.headers)
        given = _unless_given(given, _size(route, request.headers))
    given = _unless_given(given, [("filename", filename)] if filename else [])
    header = header_of(upload_parts(route.method).header_type, given)
    call = context.calls.writing(route, request.headers)
    response = await sent(call, _requests(route, header, pieces), request.receive)
    return Response(json_of(response), media_type="application/json")


def _unless_given(given: Pairs, known: Pairs) -> Pairs:
    """What the caller says comes before what is known anyway."""
    names = {name for name, _ in given}
    return [*given, *((name, value) for name, value in known if name not in names)]


async def _requests(route: Route, header: Message, pieces: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """The header, then the pieces."""
    parts = upload_parts(route.method)
    kind: Any = GetMessageClass(route.method.input_type)
    yield kind(**{parts.header: header})
    async for data in pieces:
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            yield kind(**{parts.piece: data[start : start + MAX_CHUNK_BYTES]})


def _filename(headers: Mapping[str, str]) -> str:
    said = HeaderMessage()
    said["Content-Disposition"] = headers.get("content-disposition", "")
    return said.get_filename("")


def _size(route: Route, headers: Mapping[str, str]) -> Pairs:
    """What Content-Length says: a file that is too large is refused before it is sent."""
    kind = upload_parts(route.method).header_type
    known = "size_bytes" in kind.fields_by_name and "content-length" in headers
    return [("size_bytes", headers["content-length"])] if known else []
