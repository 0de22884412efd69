"""Connections and transactions.

SQLite: WAL with full sync, so that what is committed survives a power cut; every writing
transaction begins IMMEDIATE, because WAL and a busy timeout alone do not make a claim safe.
PostgreSQL: writers lock rows; readers have a snapshot.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import CursorResult, Executable, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from scheduler.store import postgres
from scheduler.store.clock import ForwardClock
from scheduler.store.places import Lane, Places
from scheduler.store.schema import instant

_BUSY_TIMEOUT_MS = 5_000
_CLOSE_TIMEOUT = 8.0  # seconds: longer than SQLite's lock may be waited for
_SQLITE_PLACES = {Lane.READS: 9, Lane.CALLS: 1, Lane.RUNNERS: 2, Lane.LEASES: 2, Lane.HEALTH: 1}
"""As many as its pool has connections."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",  # as many hosts write it
}

T = TypeVar("T")
Result: TypeAlias = CursorResult[*tuple[Any, ...]]


class Starter(Protocol):
    """Runs something as a task that nobody's cancellation reaches."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start it."""


class Connection:
    """A connection whose statements run to their end, whatever happens to the caller.

    A cancelled statement would go on in the driver's thread and keep the database locked, so a
    cancelled caller leaves at once, while the statement, and then the rollback, are finished behind it.
    """

    def __init__(self, raw: AsyncConnection, start: "Starter", give_back: Callable[[], None]) -> None:
        """`give_back` is called when it is done with."""
        self._raw, self._start, self._give_back = raw, start, give_back
        self._last: asyncio.Future[Any] | None = None

    @property
    def dialect_name(self) -> str:
        """What kind of database it is: "sqlite" or "postgresql"."""
        return self._raw.dialect.name

    async def execute(self, statement: Executable, rows: Sequence[dict[str, Any]] | None = None) -> Result:
        """Run a statement, or an insert for many rows."""
        return await self._finish(self._raw.execute(statement, rows))

    async def run_sync(self, work: Callable[[SyncConnection], T]) -> T:
        """Run blocking code, such as migrations, with the connection."""
        return await self._finish(self._raw.run_sync(work))

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        self._last = task = self._start(work)
        return await asyncio.shield(task)

    async def _rollback(self) -> None:
        # A connection that broke has rolled back. Whoever leaves, as by a cancellation, must not hear of it
        # in the place of why.
        with suppress(DBAPIError):
            await self._raw.rollback()

    async def end(self, *, commit: bool) -> None:
        """Commit or roll back, when the last statement is done, and give the connection back."""
        try:
            if self._last is not None:
                await asyncio.wait([self._last])
            await (self._raw.commit() if commit else self._rollback())
        finally:
            try:
                await self._raw.close()
            finally:
                self._give_back()


class Database:
    """One database: reading connections, and writing transactions, of which SQLite takes one at a time.

    Whatever is asked of it waits for a place in its lane first, and raises NoPlace if that takes too long.
    """

    def __init__(self, url: str) -> None:
        self.url = async_url(url)
        self.path = sqlite_file(url)
        self._is_sqlite = make_url(self.url).get_backend_name() == "sqlite"
        self.engine: AsyncEngine = create_async_engine(self.url, **({} if self._is_sqlite else postgres.POOL))
        self._places = Places(
            _SQLITE_PLACES if self._is_sqlite else postgres.PLACES, one_writer=self._is_sqlite
        )
        self.clock = ForwardClock()
        """This machine's; a database on a server has one of its own."""
        self._unfinished: set[asyncio.Future[Any]] = set()
        self._lent: set[Connection] = set()
        self._given_back = asyncio.Event()
        self._closing = False
        if self._is_sqlite:
            # Many rows as one statement: executemany lets go of the GIL and takes it back for every row,
            # which a busy event loop makes 15 times slower.
            self.engine.dialect.use_insertmanyvalues_wo_returning = True
            _prepare_sqlite(self.engine)

    @property
    def is_shared(self) -> bool:
        """Whether other schedulers may use it at the same time."""
        return not self._is_sqlite

    @property
    def place(self) -> str:
        """Where it is, for people: a path, or a URL without its password."""
        if self.path is not None:
            return str(self.path)
        url = make_url(self.url)
        return url.set(drivername=url.get_backend_name()).render_as_string()

    @asynccontextmanager
    async def read(self, lane: Lane = Lane.READS) -> AsyncIterator[Connection]:
        """A connection with one consistent view."""
        connection = await self._opened(lane, writing=False)
        async with self._ended(connection, commit=False):
            yield connection

    @asynccontextmanager
    async def write(self, lane: Lane = Lane.CALLS, *, rebuild: bool = False) -> AsyncIterator[Connection]:
        """A transaction: commits at the end, rolls back on an exception.

        In one process writers queue here instead of polling for SQLite's lock. A caller that is
        cancelled while the commit is under way does not know whether it happened, as after a crash.
        """
        connection = await self._opened(lane, writing=True, rebuild=rebuild)
        async with self._ended(connection, commit=True):
            yield connection

    @asynccontextmanager
    async def rebuild(self) -> AsyncIterator[Connection]:
        """A writing transaction in which tables may be replaced, for migrations.

        SQLite replaces a table by dropping it, and a drop would delete, by ON DELETE CASCADE, what
        points to its rows: foreign keys are off here. Check them before the end.
        """
        try:
            async with self.write(rebuild=True) as connection:
                yield connection
        finally:
            await self.engine.dispose()  # no connection without foreign keys goes back into the pool

    async def _opened(self, lane: Lane, *, writing: bool, rebuild: bool = False) -> Connection:
        """A connection in a transaction; if the caller is cancelled meanwhile, it is closed again."""
        await self._places.take(lane, writing=writing)
        task = self._start(self._begin(lane, writing, rebuild))

        async def abandon() -> None:
            await self._end(await task, commit=False)

        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._start(abandon())
            raise

    async def _begin(self, lane: Lane, writing: bool, rebuild: bool) -> Connection:
        """Holds a place that is given back with the connection."""
        raw: AsyncConnection | None = None
        try:
            if self._closing:
                raise RuntimeError("the database is closed")
            raw = await self.engine.connect()
            if self._is_sqlite:
                await raw.execution_options(begin_immediate=writing, foreign_keys_off=rebuild)
            elif not writing:
                await raw.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            await raw.begin()
        except BaseException:
            self._places.give_back(lane, writing=writing)
            if raw is not None:
                await raw.close()
            raise
        connection = Connection(raw, self._start, partial(self._places.give_back, lane, writing=writing))
        self._lent.add(connection)
        return connection

    @asynccontextmanager
    async def _ended(self, connection: Connection, *, commit: bool) -> AsyncIterator[None]:
        """Ends the connection's transaction afterwards, behind the back of a caller that is cancelled.

        Whoever is cancelled must not wait for a database that says nothing any more.
        """
        try:
            yield
        except asyncio.CancelledError:
            self._start(self._end(connection, commit=False))
            raise
        except BaseException:
            await asyncio.shield(self._start(self._end(connection, commit=False)))
            raise
        await asyncio.shield(self._start(self._end(connection, commit=commit)))

    async def _end(self, connection: Connection, *, commit: bool) -> None:
        try:
            await connection.end(commit=commit)
        finally:
            self._lent.discard(connection)
            self._given_back.set()

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run `work` as a task that nobody's cancellation reaches."""
        task = asyncio.create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Future[Any]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, if there still is one

    async def now(self, connection: Connection) -> datetime:
        """The database's clock; SQLite's is this machine's, never put back."""
        if self._is_sqlite:
            return self.clock.now()
        query = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
        return instant(int((await connection.execute(query)).scalar_one()))

    async def settled(self, connection: Connection) -> datetime:
        """A moment by `now`; every transaction that began before it is over.

        SQLite's writers go one by one: none is over that began after one that is under way.
        """
        if self._is_sqlite:
            return datetime.max.replace(tzinfo=UTC)
        return instant(int((await connection.execute(postgres.SETTLED)).scalar_one()))

    async def close(self) -> None:
        """Finish what is under way, then close every connection, or the process would not exit.

        A handler that gRPC has cancelled may still hold a connection: it gives it back within moments.
        """
        self._closing = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while self._unfinished or self._lent:
                    self._given_back.clear()
                    waits = asyncio.ensure_future(self._given_back.wait())
                    await asyncio.wait([*self._unfinished, waits], return_when=asyncio.FIRST_COMPLETED)
                    waits.cancel()
        await self.engine.dispose()


def sqlite_file(url: str) -> Path | None:
    """The file that `url` names; None for a database in memory or on a server. Raises ValueError."""
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database)).resolve()


def open_to_look(path: Path) -> sqlite3.Connection:
    """A connection that leaves no trace of itself: nothing is written, not even an empty log."""
    # With no log beside it nobody has the file open; without "immutable" SQLite would make one.
    alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.as_uri()}?mode=ro{alone}", uri=True, timeout=_BUSY_TIMEOUT_MS / 1000)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise ValueError(
            f"DATABASE_URL {url!r} is no database URL; write sqlite:///PATH or postgresql://…"
        ) from None


def async_url(url: str) -> str:
    """`url` with the asynchronous driver: sqlite:///x becomes sqlite+aiosqlite:///x. Raises ValueError."""
    parsed = _parsed(url)
    if parsed.drivername in _DRIVERS:
        parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    if parsed.drivername not in _DRIVERS.values():
        raise ValueError(
            f"DATABASE_URL {parsed.render_as_string()!r}: only sqlite:///PATH and "
            "postgresql://USER:PASSWORD@HOST/DATABASE are supported"
        )
    return parsed.render_as_string(hide_password=False)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # transactions begin where `begin` below says
        try:
            _configure(dbapi_connection.cursor())
        except asyncio.CancelledError:  # the pool closes the connection after any error but this one
            dbapi_connection.driver_connection.stop()
            raise

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: SyncConnection) -> None:
        options = connection.get_execution_options()
        if options.get("foreign_keys_off", False):  # inside a transaction this pragma does nothing
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("begin_immediate", False) else "BEGIN")


def _configure(cursor: Any) -> None:
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
