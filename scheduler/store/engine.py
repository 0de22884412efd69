"""Connections and transactions.

SQLite: WAL with full sync, so that what is committed survives a power cut; every writing
transaction begins IMMEDIATE, because WAL and a busy timeout alone do not make a claim safe.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from scheduler.store.schema import instant

_BUSY_TIMEOUT_MS = 30_000


class Database:
    """One database: reading connections, and writing transactions one at a time."""

    def __init__(self, url: str) -> None:
        self.url = async_url(url)
        self.engine: AsyncEngine = create_async_engine(self.url)
        self._is_sqlite = self.engine.dialect.name == "sqlite"
        self._writing = asyncio.Lock()
        if self._is_sqlite:
            # Many rows as one statement: executemany lets go of the GIL and takes it back for every row,
            # which a busy event loop makes 15 times slower.
            self.engine.dialect.use_insertmanyvalues_wo_returning = True
            _prepare_sqlite(self.engine)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection with one consistent view."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: commits at the end, rolls back on an exception.

        In one process writers queue here instead of polling for SQLite's lock.
        """
        async with self._writing, self.engine.connect() as connection:
            await connection.execution_options(begin_immediate=True)
            async with connection.begin():
                yield connection

    async def now(self, connection: AsyncConnection) -> datetime:
        """The database's clock, by which leases are counted; SQLite's is this machine's."""
        if self._is_sqlite:
            return datetime.now(UTC)
        query = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
        return instant(int((await connection.execute(query)).scalar_one()))

    async def close(self) -> None:
        """Close every connection; without it the process would not exit."""
        await self.engine.dispose()


def async_url(url: str) -> str:
    """`url` with the asynchronous driver: sqlite:///x becomes sqlite+aiosqlite:///x."""
    parsed = make_url(url)
    if parsed.drivername == "sqlite":
        parsed = parsed.set(drivername="sqlite+aiosqlite")
    if parsed.get_backend_name() != "sqlite":
        raise ValueError(
            f"DATABASE_URL {parsed.render_as_string()!r}: only sqlite:///PATH is supported in this version"
        )
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return parsed.render_as_string(hide_password=False)


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # transactions begin where `begin` below says
        cursor = dbapi_connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("begin_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
