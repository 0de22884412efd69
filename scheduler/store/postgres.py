"""What is PostgreSQL's own: how it is connected to, and what its errors mean.

Several schedulers share one database. A connection that hangs must let go of its locks, and a
database that is away for a while is nobody's defect: callers hear UNAVAILABLE and come back.
"""

from typing import Any

import psycopg
from sqlalchemy import text

from scheduler.refusal import CannotStart, Refusal
from scheduler.store.places import Lane
from scheduler.store.trouble import Trouble

PLACES = {Lane.READS: 10, Lane.CALLS: 6, Lane.RUNNERS: 4, Lane.LEASES: 2, Lane.HEALTH: 1}
"""Most transactions of one scheduler at a time."""

UPGRADE_LOCK = 0x76_6D_65_73_68
"""Advisory lock of whoever migrates, so that replicas that start together do it once."""

_LIMITS = {
    "statement_timeout": "30s",
    # The locks of a scheduler that was frozen in a transaction are its replicas' after the second of these.
    # What it had waiting for them itself has given up by then, or would hold them for as long again.
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "8s",
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
SETTLED = text(
    "SELECT CAST(EXTRACT(EPOCH FROM LEAST(now(), min(xact_start))) * 1000000 AS BIGINT) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)
"""When the oldest transaction under way began, in microseconds; when this one did if there is no other."""

POOL: dict[str, Any] = {
    # A connection for each place: whoever has a place has not to wait for one, nor to make one under load.
    "pool_size": sum(PLACES.values()),
    "max_overflow": 0,
    "pool_timeout": 10,
    "pool_pre_ping": True,  # after a restart of the server nobody gets a dead connection
    "connect_args": CONNECT,
}

_TROUBLES = (
    ("password authentication failed", "Set the right user and password in DATABASE_URL."),
    ("no password supplied", "Put user and password into DATABASE_URL."),
    ("role ", "Create that user, or name another in DATABASE_URL."),
    ("database ", "Create it with `createdb`, or name another in DATABASE_URL."),
    ("too many clients", "Raise max_connections of the server, or run fewer schedulers."),
)


def trouble(error: BaseException | None, *, writing: bool) -> tuple[Trouble, str] | None:
    """What an error met while the scheduler runs amounts to, and why; None if it does not pass by itself."""
    match error:
        case psycopg.IntegrityError():
            return Trouble.COLLISION, "Another call changed the same thing at the same moment"
        case psycopg.errors.QueryCanceled():
            return Trouble.COLLISION, "The database took too long over it"
        case psycopg.errors.DeadlockDetected() | psycopg.errors.LockNotAvailable():
            return Trouble.AWAY, "Others held what the call needs for too long"
        case psycopg.errors.DiskFull():
            return Trouble.FULL, "The database's disk is full"
        case psycopg.errors.ReadOnlySqlTransaction() if writing:
            return Trouble.AWAY, "The database takes no writes, as a standby does"
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return Trouble.AWAY, "The database does not answer"
    return None


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
