"""Executes calls on an asynchronous channel."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

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
from visionmesh.client._errors import translate
from visionmesh.client._resume import Repetition, Resumption
from visionmesh.errors import MeshError, TooLarge


class AsyncConnection:
    """A channel with the stubs of every service."""

    address: str
    """Where it was told to go."""

    reached: bool
    """Whether anything was ever answered: an interruption is not the same as nobody there."""

    timeout: float
    """Deadline of single calls, in seconds."""

    patience: float
    """How long lost streams look for the mesh, in seconds."""

    def __init__(self, address: str, timeout: float, patience: float) -> None:
        self.address, self.timeout, self.patience = address, timeout, patience
        self.reached = False
        self._channel = grpc.aio.insecure_channel(address, options=channel_options(address))
        self._stubs = Stubs(self._channel)

    async def close(self) -> None:
        """Cancel what is under way and close the channel."""
        await self._channel.close()

    async def unary(self, call: Unary[Request, Response]) -> Response:
        """The answer to `call`. Raises MeshError."""
        method = cast("grpc.aio.UnaryUnaryMultiCallable[Request, Response]", call.method(self._stubs))
        clock = asyncio.get_running_loop().time
        repetition = Repetition(call, self.timeout if call.timeout is None else call.timeout, clock())
        while True:
            try:
                response = await method(call.request, timeout=repetition.timeout(clock()))
            except grpc.aio.AioRpcError as error:
                delay = repetition.failed(translate(error, self.address), self.reached, clock())
            else:
                self.reached = True
                return response
            await asyncio.sleep(delay)

    async def pages(self, listing: Listing[PagedReq, PagedResp, Item]) -> AsyncIterator[Item]:
        """The items of every page, fetched as they are asked for; too large a page is halved."""
        pager = Pager(listing)
        while pager.request is not None:
            try:
                response = await self.unary(Unary(listing.method, pager.request))
            except TooLarge:
                if not pager.halve():
                    raise
                continue
            for item in pager.received(response):
                yield item

    async def stream(self, stream: Stream[Position, Request, Response, Item]) -> AsyncGenerator[Item, None]:
        """What is new in a stream, opened again where it was cut; leaving early cancels it."""
        resumption = Resumption(stream, self.patience)
        method = cast("grpc.aio.UnaryStreamMultiCallable[Request, Response]", stream.method(self._stubs))
        while True:
            try:
                new = self._new(method(resumption.request()), resumption.received)
                async with aclosing(new) as items:
                    async for item in items:
                        yield item
                return
            except MeshError as error:
                delay = resumption.cut(error, self.reached, asyncio.get_running_loop().time())
            await asyncio.sleep(delay)

    async def _new(
        self,
        call: grpc.aio.UnaryStreamCall[Request, Response],
        received: Callable[[Response], Item | None],
    ) -> AsyncGenerator[Item, None]:
        try:
            async for response in call:
                self.reached = True
                if (item := received(response)) is not None:
                    yield item
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.address) from error
        finally:
            call.cancel()
