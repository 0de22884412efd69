"""Executes calls on a synchronous channel. Whatever ends a wait, Ctrl-C too, ends the call."""

import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, TypeVar

import grpc

from visionmesh.client._calls import (
    Item,
    Listing,
    PagedReq,
    PagedResp,
    Pager,
    Position,
    Request,
    Response,
    Stream,
    Unary,
)
from visionmesh.client._channel import Stubs, channel_options
from visionmesh.client._errors import closed, translate
from visionmesh.client._resume import Repetition, Resumption
from visionmesh.errors import MeshError, TooLarge

Response_co = TypeVar("Response_co", covariant=True)


class Responses(Protocol[Response_co]):
    """A server stream."""

    def __iter__(self) -> Iterator[Response_co]: ...

    def cancel(self) -> object:
        """End it."""


class Connection:
    """A channel with the stubs of every service. Threads may share it."""

    address: str
    """Where it was told to go."""

    reached: bool
    """Whether anything was ever answered: an interruption is not the same as nobody there."""

    timeout: float
    """Deadline of single calls, in seconds."""

    patience: float
    """How long lost streams look for the mesh, in seconds."""

    def __init__(
        self, address: str, timeout: float, patience: float, channel: grpc.Channel | None = None
    ) -> None:
        self.address, self.timeout, self.patience = address, timeout, patience
        self.reached = False
        self._own: grpc.Channel | None = None
        if channel is None:
            channel = self._own = grpc.insecure_channel(address, options=channel_options(address))
        self._stubs: Stubs | None = Stubs(channel)

    @property
    def stubs(self) -> Stubs:
        """The stubs; RuntimeError when it is closed."""
        if self._stubs is None:
            raise closed("Client")
        return self._stubs

    def close(self) -> None:
        """Cancel what is under way and close the channel; one that was given stays open."""
        self._stubs = None
        if self._own is not None:
            self._own.close()

    def unary(self, call: Unary[Request, Response], until: float | None = None) -> Response:
        """The answer to `call`, on the monotonic clock not later than `until`. Raises MeshError."""
        timeout = self.timeout if call.timeout is None else call.timeout
        if until is not None:
            timeout = max(0.0, min(timeout, until - time.monotonic()))
        repetition = Repetition(call, timeout, time.monotonic())
        while True:
            left = repetition.timeout(time.monotonic())
            try:
                return self.answer(call.method(self.stubs).future(call.request, timeout=left))
            except MeshError as error:
                delay = repetition.failed(error, self.reached, time.monotonic())
            time.sleep(delay)

    def answer(self, call: "grpc.Future[Response]") -> Response:
        """The answer to a call that has begun. Raises MeshError."""
        try:
            response = call.result()
        except grpc.RpcError as error:
            raise translate(error, self.address) from error
        finally:
            call.cancel()
        self.reached = True
        return response

    def pages(self, listing: Listing[PagedReq, PagedResp, Item]) -> Iterator[Item]:
        """The items of every page, fetched as they are asked for; too large a page is halved."""
        pager = Pager(listing)
        while pager.request is not None:
            try:
                response = self.unary(Unary(listing.method, pager.request))
            except TooLarge:
                if not pager.halve():
                    raise
                continue
            yield from pager.received(response)

    def stream(
        self, stream: Stream[Position, Request, Response, Item], until: float | None = None
    ) -> Generator[Item, None, None]:
        """What is new in a stream, opened again where it was cut; leaving early cancels it.

        `until`, on the monotonic clock, ends it with TimedOut.
        """
        resumption = Resumption(stream, self.patience, until)
        while True:
            try:
                timeout = resumption.timeout(time.monotonic())
                call = stream.method(self.stubs)(resumption.request(), timeout=timeout)
                yield from self._new(call, resumption.received)
                return
            except MeshError as error:
                delay = resumption.cut(error, self.reached, time.monotonic())
            time.sleep(delay)

    def _new(
        self, call: Responses[Response], received: Callable[[Response], Item | None]
    ) -> Generator[Item, None, None]:
        try:
            for response in call:
                self.reached = True
                if (item := received(response)) is not None:
                    yield item
        except grpc.RpcError as error:
            raise translate(error, self.address) from error
        finally:
            call.cancel()
