"""A stale database is backed up, then migrated whole or not at all; one that is not ours is refused."""

import os
import sqlite3
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copytree

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from scheduler.refusal import CannotStart, Refusal
from scheduler.store.engine import Database
from scheduler.store.migrate import MIGRATIONS, Upgrade, upgrade

HEAD = str(ScriptDirectory(str(MIGRATIONS)).get_current_head())
ADDS_A_COLUMN = "op.add_column('datasets', sa.Column('colour', sa.String()))"
FAILS_HALFWAY = "\n    ".join([ADDS_A_COLUMN, "op.execute('UPDATE datasets SET nothing_like_it = 1')"])
REBUILDS_RUNNERS = """
    with op.batch_alter_table('runners', recreate='always') as table:
        table.add_column(sa.Column('colour', sa.String()))
"""
BREAKS_A_REFERENCE = "op.execute('DELETE FROM runners')"
FILLS_THE_DISK = """
    pages = op.get_bind().exec_driver_sql('PRAGMA page_count').scalar()
    op.execute(f'PRAGMA max_page_count={pages}')
    op.execute("CREATE TABLE big AS SELECT zeroblob(1000000)")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "visionmesh.db"


@pytest.fixture
def scripts(tmp_path: Path) -> Callable[[str], Path]:
    """The migrations that there are, and one more that does what it is told."""

    def make(work: str) -> Path:
        folder = tmp_path / "migrations"
        copytree(MIGRATIONS, folder)
        text = """
            import sqlalchemy as sa
            from alembic import op
            revision, down_revision = "9999", "HEAD"
            def upgrade():
            """
        (folder / "versions" / "9999_next.py").write_text(
            textwrap.dedent(text).replace("HEAD", HEAD) + "    " + work.strip() + "\n"
        )
        return folder

    return make


async def migrated(path: Path, scripts: Path = MIGRATIONS) -> Upgrade | None:
    database = Database(f"sqlite:///{path}")
    try:
        return await upgrade(database, scripts)
    finally:
        await database.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
async def stale(path: Path) -> Path:
    """A database of this version, with a dataset in it."""
    await migrated(path)
    change(path, "INSERT INTO datasets (id, digest, payload, create_time) VALUES ('d', 'x', x'00', 1)")
    return path


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob("visionmesh.db.backup-*"))


async def test_a_fresh_database_gets_the_schema_and_no_backup(path: Path) -> None:
    assert await migrated(path) is None
    assert rows(path, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert backups(path) == []


async def test_a_database_of_this_version_is_left_alone(stale: Path) -> None:
    assert await migrated(stale) is None
    assert backups(stale) == []


async def test_a_stale_database_is_backed_up_then_migrated(
    stale: Path, scripts: Callable[[str], Path]
) -> None:
    done = await migrated(stale, scripts(ADDS_A_COLUMN))
    assert done is not None
    assert (done.before, done.after) == (HEAD, "9999")
    assert rows(stale, "SELECT id, colour FROM datasets") == [("d", None)]
    assert [done.backup] == backups(stale)
    assert done.backup is not None
    assert rows(done.backup, "SELECT version_num, (SELECT id FROM datasets) FROM alembic_version") == [
        (HEAD, "d")
    ]
    with pytest.raises(sqlite3.OperationalError, match="colour"):
        rows(done.backup, "SELECT colour FROM datasets")


async def test_a_backup_holds_what_is_committed_but_not_yet_in_the_file(
    stale: Path, scripts: Callable[[str], Path]
) -> None:
    with closing(sqlite3.connect(stale)) as other:  # keeps the write-ahead log from being taken in
        other.execute("PRAGMA wal_autocheckpoint=0")
        other.execute("UPDATE datasets SET digest = 'late'")
        other.commit()
        assert b"late" not in stale.read_bytes()  # noqa: ASYNC240
        done = await migrated(stale, scripts(ADDS_A_COLUMN))
    assert done is not None
    assert done.backup is not None
    assert rows(done.backup, "SELECT digest FROM datasets") == [("late",)]
    assert sorted(p.name for p in stale.parent.glob("*.backup*")) == [done.backup.name], "no file beside it"


async def test_backups_of_the_same_second_do_not_replace_each_other(
    stale: Path, scripts: Callable[[str], Path]
) -> None:
    folder = scripts(ADDS_A_COLUMN)
    for _ in range(3):
        await migrated(stale, folder)
        change(
            stale,
            f"UPDATE alembic_version SET version_num = '{HEAD}'",  # noqa: S608
            "ALTER TABLE datasets DROP COLUMN colour",
        )
    assert len(backups(stale)) == 3


@pytest.mark.parametrize(
    ("work", "why"),
    [(FAILS_HALFWAY, "nothing_like_it"), (FILLS_THE_DISK, "full"), (BREAKS_A_REFERENCE, "runners")],
    ids=["fails halfway", "disk full", "broken reference"],
)
async def test_a_migration_that_fails_leaves_the_database_as_it_was(
    stale: Path, scripts: Callable[[str], Path], work: str, why: str
) -> None:
    with_a_runner(stale)
    before = dump(stale)
    with pytest.raises(CannotStart) as refused:
        await migrated(stale, scripts(work))
    assert refused.value.reason is Refusal.MIGRATION_FAILED
    (backup,) = backups(stale)
    assert str(backup) in str(refused.value)
    assert why in str(refused.value)
    assert "It is as it was." in str(refused.value)
    assert dump(stale) == before == dump(backup)


async def test_a_table_that_is_rebuilt_keeps_the_rows_that_point_to_it(
    stale: Path, scripts: Callable[[str], Path]
) -> None:
    with_a_runner(stale)
    await migrated(stale, scripts(REBUILDS_RUNNERS))
    assert rows(stale, "SELECT id, colour FROM runners") == [("r", None)]
    assert rows(stale, "SELECT runner_id FROM reservations") == [("r",)]


async def test_connections_after_a_migration_enforce_foreign_keys_again(
    stale: Path, scripts: Callable[[str], Path]
) -> None:
    database = Database(f"sqlite:///{stale}")
    await upgrade(database, scripts(ADDS_A_COLUMN))
    async with database.read() as connection:
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar_one() == 1
    await database.close()


async def test_without_room_for_a_backup_nothing_is_migrated(
    stale: Path, scripts: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def on_a_small_disk(*arguments: object, **options: object) -> sqlite3.Connection:
        opened = connect(*arguments, **options)  # type: ignore[call-overload]
        if str(arguments[0]).endswith(".part"):
            opened.execute("PRAGMA max_page_count=2")
        return opened

    monkeypatch.setattr("scheduler.store.backup.sqlite3.connect", on_a_small_disk)
    with pytest.raises(CannotStart) as refused:
        await migrated(stale, scripts(ADDS_A_COLUMN))
    monkeypatch.undo()
    assert refused.value.reason is Refusal.DISK_FULL
    assert rows(stale, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert list(stale.parent.glob("*.backup*")) == []


async def test_a_damaged_database_is_not_migrated(stale: Path, scripts: Callable[[str], Path]) -> None:
    change(
        stale,
        "INSERT INTO datasets SELECT 'e', 'x', randomblob(400000), 2",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    )
    with stale.open("r+b") as file:
        file.seek(-200_000, 2)
        file.write(b"\xff" * 100_000)
    with pytest.raises(CannotStart, match="damaged") as refused:
        await migrated(stale, scripts(ADDS_A_COLUMN))
    assert refused.value.reason is Refusal.DATABASE_CORRUPT
    assert backups(stale) == []


async def test_a_newer_database_is_refused_and_not_touched(stale: Path) -> None:
    change(stale, "UPDATE alembic_version SET version_num = '9999'")
    before = dump(stale)
    with pytest.raises(CannotStart, match=r"'9999'.*a newer VisionMesh wrote it") as refused:
        await migrated(stale)
    assert refused.value.reason is Refusal.DATABASE_NEWER
    assert dump(stale) == before
    assert backups(stale) == []


async def test_a_database_of_another_program_is_refused_and_not_touched(path: Path) -> None:
    change(path, "CREATE TABLE songs (name TEXT)")
    before = path.read_bytes()  # noqa: ASYNC240
    with pytest.raises(CannotStart, match="songs") as refused:
        await migrated(path)
    assert refused.value.reason is Refusal.DATABASE_FOREIGN
    assert path.read_bytes() == before  # noqa: ASYNC240
    assert not path.with_name("visionmesh.db-wal").exists()


async def test_a_file_that_is_no_database_is_refused_and_not_touched(path: Path) -> None:
    path.write_text("something else, of more than a hundred bytes " * 10)  # noqa: ASYNC240
    with pytest.raises(CannotStart, match="is not an SQLite database") as refused:
        await migrated(path)
    assert refused.value.reason is Refusal.DATABASE_CORRUPT
    assert path.read_text().startswith("something else")  # noqa: ASYNC240


async def test_a_folder_in_the_place_of_the_database_is_refused(path: Path) -> None:
    path.mkdir()  # noqa: ASYNC240
    with pytest.raises(CannotStart, match="cannot be opened") as refused:
        await migrated(path)
    assert refused.value.reason is Refusal.DATABASE_UNREADABLE


async def test_a_truncated_database_is_refused(stale: Path) -> None:
    change(stale, "PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(stale, 6000)
    with pytest.raises(CannotStart, match="damaged") as refused:
        await migrated(stale)
    assert refused.value.reason is Refusal.DATABASE_CORRUPT


@pytest.mark.parametrize("url", ["nonsense", "mysql://me:secret@host/db"])
def test_a_database_url_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as refused:
        Database(url)
    assert "secret" not in str(refused.value)


def with_a_runner(path: Path) -> None:
    """A runner that is reserved for a job: rows that point to each other."""
    with closing(sqlite3.connect(path)) as connection:
        for table, known in (
            ("runners", {"id": "r"}),
            ("shapes", {"id": 1}),
            ("jobs", {"id": "j", "shape_id": 1, "state": "QUEUED"}),
            ("reservations", {"runner_id": "r", "job_id": "j"}),
        ):
            insert(connection, table, known)
        connection.commit()


def insert(connection: sqlite3.Connection, table: str, known: dict[str, object]) -> None:
    """A row with `known`, and zeros where something is required."""
    described = connection.execute(f"PRAGMA table_info({table})").fetchall()
    row = {
        name: b"" if kind == "BLOB" else 0 for _, name, kind, required, _, _ in described if required
    } | known
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
