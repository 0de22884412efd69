"""What passes is called so, on both databases: no lock, no place, no room, an answer that takes too long."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from sqlalchemy import TextClause, text

from scheduler.store import engine, passing, places
from scheduler.store.passing import DatabaseAway, DatabaseFull, persistently
from scheduler.store.places import Lane
from scheduler.store.store import Store
from visionmesh.errors import Reason, Unavailable

INSERT = text("INSERT INTO uploads (id, key, payload, create_time) VALUES (:id, 'k', :payload, 1)")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    made = Store(database_url, lambda _: None)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def on_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MS", 50)
    made = Store(f"sqlite:///{tmp_path}/test.db", lambda _: None)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def on_postgres(postgres: PostgresServer) -> AsyncIterator[Store]:
    made = Store(postgres.new_database(), lambda _: None)
    await made.open()
    yield made
    await made.close()


async def write(store: Store, size: int = 1, lane: Lane = Lane.CALLS, *first: TextClause) -> None:
    async with store.change(lane) as change:
        for statement in first:
            await change.connection.execute(statement)
        await change.connection.execute(INSERT, [{"id": f"of-{size}", "payload": b"x" * size}])


async def count(store: Store) -> int:
    async with store.read() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM uploads"))).scalar_one())


async def test_sqlite_that_another_program_holds_is_read_and_waited_for(
    on_sqlite: Store, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseAway, match="Another program holds") as refused:
            await write(on_sqlite)
        assert refused.value.retry_delay
        waiting = asyncio.create_task(persistently(lambda: write(on_sqlite)))
        assert await count(on_sqlite) == 0
        await on_sqlite.check()
        other.rollback()
    await waiting
    assert await count(on_sqlite) == 1


async def test_sqlite_without_room_is_full_and_can_be_read(on_sqlite: Store) -> None:
    await write(on_sqlite)
    async with on_sqlite.change() as change:
        pages = (await change.connection.execute(text("PRAGMA page_count"))).scalar_one()
        await change.connection.execute(text(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(DatabaseFull, match="free room") as refused:
        await write(on_sqlite, 1_000_000)
    assert (refused.value.reason, refused.value.retry_delay) == (Reason.STORE_FULL, passing.FULL_COME_BACK)
    assert await count(on_sqlite) == 1


async def test_what_takes_postgres_too_long_is_not_waited_for(on_postgres: Store) -> None:
    slow = text("SET LOCAL statement_timeout = '20ms'"), text("SELECT pg_sleep(10)")
    with pytest.raises(Unavailable, match="too long") as refused:
        await persistently(lambda: write(on_postgres, 1, Lane.CALLS, *slow))
    assert not isinstance(refused.value, DatabaseAway)


async def test_whoever_is_cancelled_on_a_broken_connection_leaves(
    postgres: PostgresServer, on_postgres: Store
) -> None:
    """The rollback fails: that must not take the cancellation's place, or what is persistent never ends."""
    inside = asyncio.Event()

    async def stay() -> None:
        async with on_postgres.change() as change:
            await change.connection.execute(text("SELECT 1"))
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.create_task(persistently(stay))
    await inside.wait()
    stopped = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    )
    assert await asyncio.to_thread(postgres.run_sql, stopped) == [(True,)]
    staying.cancel()
    done, _ = await asyncio.wait([staying], timeout=10)
    assert done
    assert staying.cancelled()


async def test_a_standby_takes_no_writes_for_now(on_postgres: Store) -> None:
    with pytest.raises(DatabaseAway, match="standby"):
        await write(on_postgres, 1, Lane.CALLS, text("SET TRANSACTION READ ONLY"))


async def test_a_full_lane_sends_away_and_leaves_the_others_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PLACE_SECONDS", 0.2)
    async with AsyncExitStack() as readers:
        with pytest.raises(DatabaseAway, match="Too many calls") as refused:
            await enter_all(readers, [store.read() for _ in range(30)])
        assert refused.value.retry_delay
        await write(store, 1, Lane.RUNNERS)
        await store.check()
    assert await count(store) == 1


async def enter_all(stack: AsyncExitStack, contexts: list[Any]) -> None:
    for context in contexts:
        await stack.enter_async_context(context)


async def test_who_leaves_while_it_waits_for_a_place_takes_none(store: Store) -> None:
    async with AsyncExitStack() as writers:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await enter_all(writers, [store.change() for _ in range(30)])
    await asyncio.gather(*(write(store, size) for size in range(1, 31)))
    assert await count(store) == 30
