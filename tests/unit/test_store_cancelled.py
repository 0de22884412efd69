"""A write that is cancelled at any point lets go of the database at once."""

import asyncio
import gc
from pathlib import Path

import pytest
from sqlalchemy import text

from scheduler.store.engine import Database
from scheduler.store.store import Store


async def test_a_cancelled_write_leaves_no_lock_behind(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/test.db", lambda _: None)
    await store.open()

    async def write() -> None:
        async with store.change() as change:
            await change.connection.execute(text("SELECT count(*) FROM jobs"))
            await change.connection.execute(text("UPDATE jobs SET priority = 1"))

    try:
        for steps in range(0, 300, 3):
            task = asyncio.create_task(write())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(10):  # SQLite itself would wait for 30 s
                await write()
    finally:
        await store.close()


async def test_a_connection_that_is_given_up_while_it_opens_is_closed(tmp_path: Path) -> None:
    """A connection that nobody closes warns when it is collected, and warnings are errors."""
    for steps in range(0, 200, 4):
        database = Database(f"sqlite:///{tmp_path}/test.db")

        async def write(database: Database = database) -> None:
            async with database.write() as connection:
                await connection.execute(text("CREATE TABLE IF NOT EXISTS t (x)"))

        task = asyncio.create_task(write())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(10):
            await write()
        await database.close()
    gc.collect()


async def test_closing_waits_for_what_is_lent(tmp_path: Path) -> None:
    """Handlers that gRPC cancels give their connections back a little later."""
    database = Database(f"sqlite:///{tmp_path}/test.db")
    reading = asyncio.Event()

    async def read() -> None:
        async with database.read() as connection:
            await connection.execute(text("SELECT 1"))
            reading.set()
            await asyncio.Event().wait()

    reader = asyncio.create_task(read())
    await reading.wait()
    closing = asyncio.create_task(database.close())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not closing.done()
    with pytest.raises(RuntimeError, match="closed"):
        await read()
    reader.cancel()
    async with asyncio.timeout(10):
        await closing
    assert reader.done()
    gc.collect()
