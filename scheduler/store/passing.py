"""Troubles that pass: the database is away, others hold it, its disk is full; the object store is away.

They are nobody's defect. Callers hear UNAVAILABLE or RESOURCE_EXHAUSTED with the time to come back;
what the scheduler does by itself, and what runners have sent, waits until the trouble is over.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import grpc
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.store import postgres, trouble
from scheduler.store.places import NoPlace
from scheduler.store.trouble import Trouble
from visionmesh.errors import MeshError, Overloaded, Reason, Unavailable
from visionmesh.storage import StoreError

RETRY_SECONDS = 0.5
"""Time from one try to the next."""

_COME_BACK = timedelta(seconds=RETRY_SECONDS)
_OBJECTS_COME_BACK = timedelta(seconds=1)
"""The store itself has tried again for a while before it says so."""

FULL_COME_BACK = timedelta(seconds=5)
"""Room is not made in a moment."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class DatabaseAway(Unavailable):
    """The database does not answer, or others hold what is needed: the same may work in a moment."""


class DatabaseFull(Overloaded):
    """There is no room for what is to be written. Reading goes on."""


class ObjectsAway(Unavailable):
    """The object store does not answer, or lets us do nothing until somebody mends that."""


PASSING = (DatabaseAway, DatabaseFull, ObjectsAway)
"""What is worth waiting for."""


def away(why: str) -> DatabaseAway:
    """UNAVAILABLE, for callers who may come back."""
    return DatabaseAway(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, _again(why), retry_delay=_COME_BACK)


def objects_away(error: StoreError) -> ObjectsAway:
    """UNAVAILABLE: whoever has work to do there comes back."""
    code, reason = grpc.StatusCode.UNAVAILABLE, Reason.STORE_UNAVAILABLE
    return ObjectsAway(code, reason, str(error), retry_delay=_OBJECTS_COME_BACK)


def _full(why: str) -> DatabaseFull:
    text = (
        f"{why}, and nothing can be stored; what is stored can be read. Whoever runs the scheduler has to "
        "free room on that disk; then try again."
    )
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    return DatabaseFull(code, Reason.STORE_FULL, text, retry_delay=FULL_COME_BACK)


def _collision(why: str) -> MeshError:
    """UNAVAILABLE too, but of this one transaction: waiting for the database would not help it."""
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, _again(why), retry_delay=_COME_BACK)


def _again(why: str) -> str:
    return f"{why}. Try again in a moment; with the same request_id nothing is done twice."


_ERRORS: dict[Trouble, Callable[[str], MeshError]] = {
    Trouble.AWAY: away,
    Trouble.FULL: _full,
    Trouble.COLLISION: _collision,
}


@contextmanager
def passing_troubles(*, writing: bool) -> Iterator[None]:
    """Turns what passes by itself into an error that says so. Raises MeshError."""
    try:
        yield
    except NoPlace as error:
        raise away("Too many calls wait for the database") from error
    except PoolTimeout as error:
        raise away("All connections to the database are in use") from error
    except DBAPIError as error:
        found = postgres.trouble(error.orig, writing=writing) or trouble.of_sqlite(error)
        if found is None:
            raise
        kind, why = found
        raise _ERRORS[kind](why) from error


async def persistently(work: Callable[[], Awaitable[T]], told_as: str = "") -> T:
    """What `work` gives, tried again for as long as database or object store is away or full.

    `work` must bear to be done twice: nobody knows whether a commit that was cut off happened.
    The log tells of the wait under the name `told_as`, if there is one.
    """
    since: float | None = None
    while True:
        try:
            done = await work()
        except PASSING as error:
            if since is None and told_as:
                log.warning("waits", what=told_as, why=error.message)
            since = since or time.monotonic()
            await asyncio.sleep(RETRY_SECONDS)
        else:
            if since is not None and told_as:
                log.info("goes on", what=told_as, waited_s=round(time.monotonic() - since, 1))
            return done
