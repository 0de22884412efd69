"""Requests that stream to the scheduler, as fast as it takes them.

On a synchronous channel: an asynchronous one replaces the status of a call that ends while something is being
written, such as "the file is too large", by an INTERNAL of its own. gRPC iterates the requests in a thread of
its own, which waits here for the event loop to have the next one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from typing import Any

from google.protobuf.message import Message
from starlette.types import Receive

from gateway.presence import while_present


async def sent(start: Callable[[Any], Any], requests: AsyncIterator[Message], receive: Receive) -> Message:
    """The answer of the call that `start` begins with an iterator of what `requests` has.

    The call is cancelled when the requests end with an error, or when the client goes away. Raises that
    error, ClientGone, and grpc.RpcError.
    """
    source = _Source(requests)
    loop, answered = asyncio.get_running_loop(), asyncio.Event()

    def wake(_: object) -> None:
        loop.call_soon_threadsafe(answered.set)

    call = start(source)
    call.add_done_callback(wake)
    waiting: asyncio.Future[Any] = asyncio.ensure_future(answered.wait())
    ended: asyncio.Future[Any] = source.ended
    try:
        await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            ended.result()
            await while_present(receive, answered.wait())
    finally:
        call.cancel()  # first: what ends by itself is a whole file
        waiting.cancel()
        source.close()
    response: Message = call.result()
    return response


class _Source:
    """An iterator for another thread, of what the event loop's iterator has."""

    def __init__(self, requests: AsyncIterator[Message]) -> None:
        self._requests, self._loop = requests, asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when there are no more requests; raises what they ended with."""
        self._next: Any = None
        self._closed = False

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> Message:
        if self._closed:
            raise StopIteration
        self._next = asyncio.run_coroutine_threadsafe(self._advance(), self._loop)
        try:
            message: Message | None = self._next.result()
        except CancelledError:
            message = None
        if message is None:
            raise StopIteration
        return message

    async def _advance(self) -> Message | None:
        if self._closed:
            return None
        try:
            message = await anext(self._requests, None)
        except Exception as error:
            self.ended.set_exception(error)
            await asyncio.Event().wait()  # until the call is cancelled
            return None
        if message is None:
            self.ended.set_result(None)
        return message

    def close(self) -> None:
        """Let the other thread go."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()
        if self.ended.done() and not self.ended.cancelled():
            self.ended.exception()
        self.ended.cancel()
