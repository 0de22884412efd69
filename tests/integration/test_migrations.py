"""Every migration goes up, down and up again, on both databases, and leaves the schema that it found."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from scheduler.store.engine import Database
from scheduler.store.migrate import MIGRATIONS, configuration

REVISIONS = [revision.revision for revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]
STEPS = list(zip(["base", *REVISIONS[:-1]], REVISIONS, strict=True))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    yield made
    await made.close()


def schema(raw: Connection) -> dict[str, Any]:
    """All that the database says of its tables, as text that can be compared."""
    found = inspect(raw)
    return {
        table: {
            "columns": [_plain(column) for column in found.get_columns(table)],
            "primary key": _plain(found.get_pk_constraint(table)),
            "foreign keys": sorted(map(_plain, found.get_foreign_keys(table))),
            "indexes": sorted(map(_plain, found.get_indexes(table))),
            "unique": sorted(map(_plain, found.get_unique_constraints(table))),
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def _plain(described: Any) -> str:
    """Types and conditions are objects, each unlike all others."""
    if isinstance(described, dict):
        return str({key: _plain(value) for key, value in sorted(described.items())})
    return str(described)


async def migrated(database: Database, how: Any, revision: str) -> dict[str, Any]:
    """The schema after going to `revision`."""
    async with database.rebuild() as connection:
        await connection.run_sync(lambda raw: how(configuration(raw), revision))
    async with database.read() as connection:
        return await connection.run_sync(schema)


@pytest.mark.parametrize(("before", "after"), STEPS, ids=lambda revision: str(revision))
async def test_a_step_can_be_taken_back_and_taken_again(database: Database, before: str, after: str) -> None:
    found = {} if before == "base" else await migrated(database, command.upgrade, before)
    up = await migrated(database, command.upgrade, after)
    assert up != found
    assert await migrated(database, command.downgrade, before) == found
    assert await migrated(database, command.upgrade, after) == up
