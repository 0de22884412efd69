"""Streams of messages: events for browsers (SSE), or one JSON object per line (NDJSON).

An event stream tells with each message where it stands, so that the browser's EventSource resumes by itself:
the number or token comes back as Last-Event-ID and fills the field of the request that resumes the watch.
It ends with `event: end` or `event: error`; a gateway that stops just closes it, and the browser connects
again. Lines end with an {"error": …} line if the stream broke off.

What the client does not read is not read from the scheduler either: each message waits until the connection
takes it.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import errors
from gateway.context import Context
from gateway.presence import first_of, until_gone, while_present
from gateway.resuming import Position, position_of
from gateway.routes import Route
from gateway.unary import json_of, message_of
from visionmesh.errors import MeshError, Reason, status_of

_LAST_WORD_SECONDS = 0.2
"""Time that a client which is read from has to take the last line when the gateway stops."""

_STATUS_SECONDS = 0.05
"""Time from headers without a message to the status of a call that was refused: they come together."""


async def stream(context: Context, route: Route, fields: dict[str, str], request: Request) -> Response:
    """Make the call; answer once it is accepted, with its messages as they come."""
    asked = await message_of(context, route, fields, request)
    wants_events = "text/event-stream" in request.headers.get("accept", "")
    form: Form = Events(position_of(route.method)) if wants_events else Lines()
    form.resume(asked, request.headers)
    call = context.calls.reading(route, asked, request.headers)
    try:
        first = await while_present(request.receive, _accepted(call))
    except BaseException:
        call.cancel()
        raise
    return StreamedResponse(context, call, first, form)


async def _accepted(call: Any) -> "asyncio.Future[Any]":
    """The first message, which may be still to come; raises grpc.RpcError if the call is refused."""
    first: asyncio.Future[Any] = asyncio.ensure_future(call.read())
    headers = asyncio.ensure_future(call.initial_metadata())
    try:
        await asyncio.wait({first, headers}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({first}, timeout=_STATUS_SECONDS)
        if first.done():
            first.result()
        return first
    except BaseException:
        first.cancel()
        raise
    finally:
        headers.cancel()
        await asyncio.gather(headers, return_exceptions=True)


class Form(Protocol):
    """How messages look."""

    media_type: str

    def resume(self, request: Any, headers: Mapping[str, str]) -> None:
        """Go on where the client was cut off, if it says so."""

    def message(self, message: Message) -> str:
        """One message."""

    def end(self) -> str:
        """The stream is complete."""

    def error(self, status: status_pb2.Status) -> str:
        """The stream broke off."""

    def stopping(self) -> str:
        """The gateway stops."""

    def heartbeat(self) -> str:
        """Nothing new."""


class Events:
    """Server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, position: Position | None) -> None:
        self._position = position

    def resume(self, request: Any, headers: Mapping[str, str]) -> None:
        """Take up Last-Event-ID. Raises INVALID_ARGUMENT."""
        last = headers.get("last-event-id")
        if last and self._position is not None:
            self._position.resume(request, last)

    def message(self, message: Message) -> str:
        """The id is where the stream stands, the event the part that is set."""
        place = self._position.of(message) if self._position is not None else ""
        head = f"id: {place}\n" if place else ""
        return f"{head}event: {_event(message)}\ndata: {json_of(message)}\n\n"

    def end(self) -> str:
        """The page should close its EventSource now, which would connect again otherwise."""
        return "event: end\ndata: {}\n\n"

    def error(self, status: status_pb2.Status) -> str:
        """The data is what a refused request has as its body."""
        return f"event: error\ndata: {json.dumps(errors.json_of(status))}\n\n"

    def stopping(self) -> str:
        """Nothing: a closed connection is what makes an EventSource connect again."""
        return ""

    def heartbeat(self) -> str:
        """A comment."""
        return ": heartbeat\n\n"


class Lines:
    """One JSON object per line."""

    media_type = "application/x-ndjson"

    def resume(self, request: Any, headers: Mapping[str, str]) -> None:
        """The request's own field resumes."""

    def message(self, message: Message) -> str:
        """A line."""
        return json_of(message) + "\n"

    def end(self) -> str:
        """Nothing: no error is the end."""
        return ""

    def error(self, status: status_pb2.Status) -> str:
        """The last line."""
        return json.dumps({"error": errors.json_of(status)}) + "\n"

    def stopping(self) -> str:
        """The last line."""
        text = "The gateway stops. Call again, and resume where this stream ended."
        return self.error(status_of(MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, text)))

    def heartbeat(self) -> str:
        """Nothing."""
        return ""


def _event(message: Message) -> str:
    """The name of the part that is set; `message` where there are no parts."""
    for oneof in message.DESCRIPTOR.oneofs:
        name = message.WhichOneof(oneof.name)
        if name:
            return str(message.DESCRIPTOR.fields_by_name[name].json_name)
    return "message"


class StreamedResponse(Response):
    """The messages of a call, until it ends, the client goes or the gateway stops."""

    def __init__(self, context: Context, call: Any, first: "asyncio.Future[Any]", form: Form) -> None:
        at_once = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies keep nothing back
        super().__init__(media_type=form.media_type, headers=at_once)
        del self.headers["content-length"]
        self._context, self._call, self._form = context, call, form
        self._next = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send headers at once, then what comes."""
        sending = asyncio.ensure_future(self._send_all(send))
        stopping = asyncio.ensure_future(self._context.stopping.wait())
        try:
            await first_of(sending, stopping, asyncio.ensure_future(until_gone(receive)))
        finally:
            self._next.cancel()
            self._call.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        if not sending.cancelled():
            sending.result()
        elif self._context.stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await _send(send, self._form.stopping(), more=False)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            while (message := await self._read(send)) is not grpc.aio.EOF:
                await _send(send, self._form.message(message))
            last = self._form.end()
        except grpc.RpcError as error:
            last = self._form.error(errors.status_of_call(error, self._context.calls.address))
        await _send(send, last, more=False)

    async def _read(self, send: Send) -> Any:
        while True:
            done, _ = await asyncio.wait({self._next}, timeout=self._context.settings.heartbeat_seconds)
            if done:
                message = self._next.result()
                self._next = asyncio.ensure_future(self._call.read())
                return message
            await _send(send, self._form.heartbeat())


async def _send(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
