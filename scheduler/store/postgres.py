"""What is PostgreSQL's own: how it is connected to, and what its errors mean.

Several schedulers share one database. A connection that hangs must let go of its locks, and a
database that is away for a while is nobody's defect: callers hear UNAVAILABLE and come back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import grpc
import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.refusal import CannotStart, Refusal
from visionmesh.errors import MeshError, Reason

WRITERS = 8
"""Most writing transactions of one scheduler at a time."""

UPGRADE_LOCK = 0x76_6D_65_73_68
"""Advisory lock of whoever migrates, so that replicas that start together do it once."""

_LIMITS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    # The locks of a scheduler that was frozen in a transaction are its replicas' after this.
    "idle_in_transaction_session_timeout": "30s",
}
CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "visionmesh",
    "options": " ".join(f"-c {name}={value}" for name, value in _LIMITS.items()),
    # A server that went without a word is noticed within about 15 s.
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
POOL: dict[str, Any] = {
    "pool_size": 10,
    "max_overflow": 10,
    "pool_timeout": 10,  # seconds that a call waits for a connection
    "pool_pre_ping": True,  # after a restart of the server nobody gets a dead connection
    "connect_args": CONNECT,
}

_COME_BACK = timedelta(milliseconds=500)
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.IntegrityError)
_TROUBLES = (
    ("password authentication failed", "Set the right user and password in DATABASE_URL."),
    ("no password supplied", "Put user and password into DATABASE_URL."),
    ("role ", "Create that user, or name another in DATABASE_URL."),
    ("database ", "Create it with `createdb`, or name another in DATABASE_URL."),
    ("too many clients", "Raise max_connections of the server, or run fewer schedulers."),
)


@contextmanager
def passing_troubles() -> Iterator[None]:
    """Turns what passes by itself into UNAVAILABLE with the time to come back. Raises MeshError."""
    try:
        yield
    except PoolTimeout as error:
        why = "All connections to the database are in use"
        raise _unavailable(why) from error
    except DBAPIError as error:
        if not isinstance(error.orig, _PASSING):
            raise
        raise _unavailable(_why(error.orig)) from error


def _why(error: BaseException) -> str:
    if isinstance(error, psycopg.errors.UniqueViolation | psycopg.errors.ForeignKeyViolation):
        return "Another call changed the same thing at the same moment"
    if isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.LockNotAvailable):
        return "Others held what the call needs for too long"
    return "The database does not answer"


def _unavailable(why: str) -> MeshError:
    message = f"{why}. Try again in a moment; with the same request_id nothing is done twice."
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, message, retry_delay=_COME_BACK)


def refusal(error: BaseException, place: str) -> CannotStart | None:
    """What an error met at the start means; None if it is none of the connection's own."""
    cause = getattr(error, "orig", None)
    if not isinstance(cause, psycopg.OperationalError):
        return None
    why = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    said = why.rpartition("FATAL:")[2]
    advice = next((todo for words, todo in _TROUBLES if words in said and "FATAL:" in why), None)
    advice = advice or "See that the server runs, and that DATABASE_URL names its host and port."
    return CannotStart(Refusal.DATABASE_UNREACHABLE, f"The database {place} cannot be used: {why}. {advice}")
