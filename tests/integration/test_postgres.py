"""A PostgreSQL that cannot be used is refused in words."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from live_scheduler import running
from postgres_server import PostgresServer
from sqlalchemy import text

from scheduler.doctor import database as looked_at
from scheduler.refusal import CannotStart, Refusal
from scheduler.store.engine import Database
from scheduler.store.migrate import MIGRATIONS, upgrade
from scheduler.store.store import Store
from visionmesh.doctor import Verdict
from visionmesh.errors import MeshError

HEAD = ScriptDirectory(str(MIGRATIONS)).get_current_head()
BAD: dict[str, tuple[Callable[[PostgresServer], str], str]] = {
    "no such database": (lambda server: server.url("nowhere"), "createdb"),
    "wrong password": (lambda server: server.url("postgres", "mesh:secret"), "right user and password"),
    "nobody listens": (lambda _: "postgresql://mesh:secret@127.0.0.1:1/mesh", "See that the server runs"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_stands_in_the_way_is_said(postgres: PostgresServer, tmp_path: Path, case: str) -> None:
    make, advice = BAD[case]
    with pytest.raises(CannotStart, match=advice) as refused:
        async with running(tmp_path, database_url=make(postgres)):
            raise AssertionError("it started")
    assert refused.value.reason is Refusal.DATABASE_UNREACHABLE
    assert "secret" not in str(refused.value)
    found = looked_at(make(postgres))
    assert found.verdict is Verdict.PROBLEM
    assert "secret" not in str(found.as_object())


async def test_the_doctor_knows_an_empty_and_a_full_database(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    assert "is empty" in looked_at(url).seen
    database = Database(url)
    await upgrade(database)
    assert (looked_at(url).verdict, f"revision {HEAD}" in looked_at(url).seen) == (Verdict.OK, True)
    await database.close()


async def lock_the_jobs(store: Store) -> None:
    async with store.change() as change:
        await change.connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        await change.connection.execute(text("LOCK TABLE jobs"))


async def test_a_lock_that_is_held_too_long_is_no_defect(postgres: PostgresServer) -> None:
    store = Store(postgres.new_database(), lambda _: None)
    await store.open()
    try:
        async with store.change() as holder:
            await holder.connection.execute(text("LOCK TABLE jobs"))
            with pytest.raises(MeshError, match="held what the call needs") as refused:
                await lock_the_jobs(store)
        assert refused.value.retry_delay
    finally:
        await store.close()
