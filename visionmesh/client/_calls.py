"""Calls as data: what is asked of which method, and how to go on with the answer.

Both faces of the client, asynchronous and synchronous, execute these; neither clock, socket nor
event loop is known here.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc

from visionmesh.client._channel import Stubs

Request = TypeVar("Request")
Response = TypeVar("Response")
Item = TypeVar("Item")
Position = TypeVar("Position")


class PagedRequest(Protocol):
    """A request of a List call."""

    page_size: int
    page_token: str


class PagedResponse(Protocol):
    """A response of a List call."""

    next_page_token: str


PagedReq = TypeVar("PagedReq", bound=PagedRequest)
PagedResp = TypeVar("PagedResp", bound=PagedResponse)


@dataclass(frozen=True)
class Unary(Generic[Request, Response]):
    """One request, one answer."""

    method: "Callable[[Stubs], grpc.UnaryUnaryMultiCallable[Request, Response]]"
    """Which method."""

    request: Request
    """What is asked."""

    timeout: float | None = None
    """Seconds to the deadline; None for the client's own."""


@dataclass(frozen=True)
class Listing(Generic[PagedReq, PagedResp, Item]):
    """A List call, to be followed through all its pages."""

    method: "Callable[[Stubs], grpc.UnaryUnaryMultiCallable[PagedReq, PagedResp]]"
    """Which method."""

    request: PagedReq
    """What is asked for the first page."""

    items: Callable[[PagedResp], Iterable[Item]]
    """What is on a page."""


@dataclass(frozen=True)
class Stream(Generic[Position, Request, Response, Item]):
    """A server stream that can be opened again where it was cut."""

    method: "Callable[[Stubs], grpc.UnaryStreamMultiCallable[Request, Response]]"
    """Which method."""

    request: Callable[[Position], Request]
    """What is asked for what lies behind a position."""

    start: Position
    """Where it begins."""

    take: Callable[[Position, Response], tuple[Position, Item | None]]
    """The position after a message, and what is new in it."""


class Pager(Generic[PagedReq, PagedResp, Item]):
    """Which page to ask for next, and how large."""

    request: PagedReq | None
    """The next request; None when all pages have come."""

    def __init__(self, listing: Listing[PagedReq, PagedResp, Item]) -> None:
        self.request = listing.request
        self._items = listing.items

    def received(self, response: PagedResp) -> Iterable[Item]:
        """What is on the page that has come."""
        self._next(page_token=response.next_page_token)
        if not response.next_page_token:
            self.request = None
        return self._items(response)

    def halve(self) -> bool:
        """Ask for half as many from now on; False if there is nothing to halve."""
        if self.request is None or self.request.page_size <= 1:
            return False
        self._next(page_size=self.request.page_size // 2)
        return True

    def _next(self, **changes: object) -> None:
        self.request = deepcopy(self.request)  # a request that was sent is left alone
        for name, value in changes.items():
            setattr(self.request, name, value)
