"""The store as the rest of the scheduler sees it: read, change, and tell what a change leads to."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import select

from scheduler.store import listing, migrate, record
from scheduler.store.engine import Connection, Database
from scheduler.store.notices import Notices
from scheduler.store.passing import passing_troubles
from scheduler.store.places import Lane
from scheduler.store.record import Effects, JobRecord
from scheduler.store.schema import shapes
from visionmesh import names
from visionmesh.errors import not_found


class Change:
    """A writing transaction: rows loaded through it are written when it ends."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.effects = Effects()
        self._records: dict[str, JobRecord] = {}

    async def jobs(self, job_ids: Iterable[str]) -> dict[str, JobRecord]:
        """Lock and load jobs; those that do not exist are left out."""
        wanted = set(job_ids)
        missing = wanted - self._records.keys()
        if missing:
            self._records |= await record.load(self.connection, missing)
        return {job_id: self._records[job_id] for job_id in sorted(wanted) if job_id in self._records}

    async def job(self, job_id: str) -> JobRecord:
        """Lock and load one job. Raises NOT_FOUND."""
        loaded = await self.jobs([job_id])
        if job_id not in loaded:
            raise not_found("job", names.job_name(job_id))
        return loaded[job_id]

    async def flush(self) -> None:
        """Write every loaded row that changed."""
        dirty = [loaded for loaded in self._records.values() if loaded.dirty]
        self.effects.add(await record.flush_all(self.connection, dirty, self.now))


class Store:
    """One database, and the listener for what committed changes lead to, those of other schedulers too."""

    def __init__(self, url: str, on_commit: Callable[[Effects], None]) -> None:
        self._database = Database(url)
        self._on_commit = on_commit
        self._notices = Notices(url, on_commit) if self._database.is_shared else None

    async def open(self) -> migrate.Upgrade | None:
        """Bring the schema up to date; what was done if it was behind. Raises CannotStart."""
        upgraded = await migrate.upgrade(self._database)
        async with self.read() as connection:
            self._database.clock.start_after(await listing.newest_change(connection))
        if self._notices is not None:
            self._notices.start()
        return upgraded

    async def close(self) -> None:
        """Close every connection."""
        if self._notices is not None:
            await self._notices.close()
        await self._database.close()

    @asynccontextmanager
    async def read(self, lane: Lane = Lane.READS) -> AsyncIterator[Connection]:
        """A connection for reading. Raises DatabaseAway."""
        with passing_troubles(writing=False):
            async with self._database.read(lane) as connection:
                yield connection

    @asynccontextmanager
    async def change(self, lane: Lane = Lane.CALLS) -> AsyncIterator[Change]:
        """A transaction; its effects are told once it is committed.

        Raises DatabaseAway and DatabaseFull. If the database went during the commit, nobody knows
        whether that happened: what is written must bear to be written again.
        """
        with passing_troubles(writing=True):
            async with self._database.write(lane) as connection:
                change = Change(connection, await self._database.now(connection))
                yield change
                await change.flush()
        self._on_commit(change.effects)
        if self._notices is not None:
            self._notices.tell(change.effects)

    async def now(self) -> datetime:
        """The database's clock."""
        async with self.read() as connection:
            return await self.now_of(connection)

    async def now_of(self, connection: Connection) -> datetime:
        """The database's clock, asked over a connection that is open already."""
        return await self._database.now(connection)

    async def settled(self) -> datetime:
        """Whatever is read from now on misses no change that is older than this moment."""
        async with self.read() as connection:
            return await self._database.settled(connection)

    async def check(self) -> None:
        """Look whether the database answers, however many callers wait for it. Raises DatabaseAway."""
        async with self.read(Lane.HEALTH) as connection:
            await connection.execute(select(shapes.c.id).limit(1))
