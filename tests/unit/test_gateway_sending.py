"""Requests on their way to another thread: their order, their end, and who hears of an error."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import pytest

from gateway.sending import sent
from visionmesh.v1 import dataset_pb2

Request = dataset_pb2.UploadFileRequest


def reading(take: int | None = None) -> Any:
    """A call that reads `take` requests, or all, in a thread as gRPC does, and answers with what it read."""

    def start(requests: Any) -> "Future[Any]":
        call: Future[Any] = Future()

        def read() -> None:
            found = []
            for request in requests:
                found.append(request.chunk)
                if len(found) == take:
                    break
            if not call.cancelled():
                call.set_result(found)

        threading.Thread(target=read, daemon=True).start()
        return call

    return start


async def never() -> Any:
    return await asyncio.Event().wait()


async def requests(*chunks: bytes, last: Exception | None = None) -> AsyncIterator[Request]:
    for chunk in chunks:
        yield Request(chunk=chunk)
    if last is not None:
        raise last


async def test_requests_come_in_order_and_end() -> None:
    assert await sent(reading(), requests(b"a", b"b", b"c"), never) == [b"a", b"b", b"c"]  # type: ignore[comparison-overlap]


async def test_an_answer_may_come_before_the_last_request() -> None:
    async def endless() -> AsyncIterator[Request]:
        yield Request(chunk=b"a")
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        assert await sent(reading(1), endless(), never) == [b"a"]  # type: ignore[comparison-overlap]


async def test_an_error_in_the_requests_is_not_the_end_of_the_file() -> None:
    calls: list[Future[Any]] = []

    def start(given: Any) -> "Future[Any]":
        calls.append(reading()(given))
        return calls[0]

    with pytest.raises(ValueError, match="broken"):
        await sent(start, requests(b"a", last=ValueError("broken")), never)
    assert calls[0].cancelled()
