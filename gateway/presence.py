"""Whether the client is still there, and whether the gateway is to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

Found = TypeVar("Found")


class ClientGone(Exception):
    """The client has closed its connection: nobody is there to answer to."""


async def while_present(receive: Receive, work: Coroutine[Any, Any, Found]) -> Found:
    """What `work` comes to; it is cancelled, and ClientGone raised, when the client goes away first.

    The request's body must have been read.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(until_gone(receive))
    await first_of(task, gone)
    if not task.done() or task.cancelled():
        raise ClientGone
    return task.result()


async def first_of(*awaited: "asyncio.Future[Any]") -> None:
    """Wait until one is done, and cancel the others; if this is cancelled, cancel all."""
    try:
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in awaited:
            each.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)


async def until_gone(receive: Receive) -> None:
    """Wait for the client to go away. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
