"""Brings a database to the schema of this version.

An SQLite file that is behind is copied beside itself first, then migrated in one transaction: a
migration that fails leaves the file as it was.
"""

import asyncio
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, text

from scheduler.refusal import CannotStart, Refusal, unusable_folder
from scheduler.store import postgres
from scheduler.store.backup import BadCopy, back_up
from scheduler.store.engine import Database, open_to_look
from scheduler.store.trouble import damaged, explained

MIGRATIONS = Path(__file__).parent / "migrations"

log = structlog.get_logger(__name__)


class NewerDatabase(CannotStart):
    """The database was made by a newer version of VisionMesh."""

    def __init__(self, revision: str, where: str) -> None:
        super().__init__(
            Refusal.DATABASE_NEWER,
            f"The database {where} has schema revision {revision!r}, which this version does not know: "
            "a newer VisionMesh wrote it. Start that version, or choose another folder with --data-dir.",
        )


@dataclass(frozen=True)
class Upgrade:
    """What was done to a database that was behind."""

    before: str
    """Revision that it had."""

    after: str
    """Revision that it has."""

    backup: Path | None
    """Copy of it as it was; None where the database is no file."""


async def upgrade(database: Database, scripts: Path = MIGRATIONS) -> Upgrade | None:
    """Apply the migrations that are missing; what was done to a database that was behind.

    Raises CannotStart, NewerDatabase among them; the database is as it was then.
    """
    try:
        done = await _upgrade(database, scripts)
    except CannotStart:
        raise
    except Exception as error:
        path = database.path
        refusal = explained(error, path) if path is not None else postgres.refusal(error, database.place)
        if refusal is None:
            raise
        raise refusal from error
    if done is not None:
        log.info("database migrated", before=done.before, after=done.after, backup=str(done.backup))
    return done


async def _upgrade(database: Database, scripts: Path) -> Upgrade | None:
    if database.path is not None:
        present = await asyncio.to_thread(_present_in_file, database.path, scripts)
    else:
        return await _upgrade_server(database, scripts)
    head = _script(scripts).get_current_head()
    if present == head or head is None:
        return None
    if present is not None:
        return await _migrate(database, scripts, present, head)
    async with database.write() as connection:
        await connection.run_sync(lambda raw: command.upgrade(configuration(raw, scripts), "head"))
    return None


async def _upgrade_server(database: Database, scripts: Path) -> Upgrade | None:
    """As `_upgrade` where the tables are on a server; one replica at a time."""
    head = _script(scripts).get_current_head()
    present: str | None = None
    try:
        async with database.write() as connection:
            await connection.execute(text("SET LOCAL lock_timeout = 0"))
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({postgres.UPGRADE_LOCK})"))
            present = await connection.run_sync(lambda raw: present_revision(raw, scripts, database.place))
            if present == head or head is None:
                return None
            await connection.run_sync(lambda raw: _apply(raw, scripts))
    except CannotStart:
        raise
    except Exception as error:
        if present is None or head is None:
            raise
        raise MigrationFailed(database, present, head, None, error) from error
    return Upgrade(present, head, None) if present is not None else None


async def _migrate(database: Database, scripts: Path, before: str, after: str) -> Upgrade:
    backup: Path | None = None
    try:
        async with database.rebuild() as connection:  # nobody else writes from here on
            if database.path is not None:
                path = database.path
                backup = await connection.run_sync(lambda _: _backed_up(path, before))
            await connection.run_sync(lambda raw: _apply(raw, scripts))
    except CannotStart:
        raise
    except Exception as error:
        raise MigrationFailed(database, before, after, backup, error) from error
    return Upgrade(before, after, backup)


def _apply(connection: Connection, scripts: Path) -> None:
    command.upgrade(configuration(connection, scripts), "head")
    if connection.dialect.name == "sqlite":
        broken = connection.execute(text("PRAGMA foreign_key_check")).first()
        if broken is not None:
            raise ValueError(f"rows of {broken[0]} would point to rows of {broken[2]} that are not there")


class MigrationFailed(CannotStart):
    """A migration did not go through; the database is as it was."""

    def __init__(
        self, database: Database, before: str, after: str, backup: Path | None, error: Exception
    ) -> None:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        kept = f" A copy is kept as {backup}." if backup is not None else ""
        super().__init__(
            Refusal.MIGRATION_FAILED,
            f"The database {database.place} could not be brought from revision {before!r} to {after!r}: "
            f"{why}. It is as it was.{kept} "
            "Mend the cause and start again, or start the version that wrote it.",
        )


def _backed_up(path: Path, revision: str) -> Path:
    """Raises CannotStart: without a backup nothing is migrated."""
    try:
        return back_up(path, revision, datetime.now(UTC))
    except BadCopy as error:
        raise damaged(path, str(error)) from error
    except sqlite3.Error as error:
        refusal = explained(error, path)
        if refusal is None:
            raise
        raise refusal from error
    except OSError as error:
        raise unusable_folder(path.parent, error) from error


def _present_in_file(path: Path, scripts: Path) -> str | None:
    """As `present_revision`, without leaving a trace in a file that may not be ours."""
    if not path.exists():
        return None
    engine = create_engine("sqlite://", creator=lambda: open_to_look(path), poolclass=NullPool)
    with engine.connect() as connection:
        return present_revision(connection, scripts, str(path))


def present_revision(connection: Connection, scripts: Path, place: str) -> str | None:
    """The database's revision; None if it is empty. Raises CannotStart for one that is not ours."""
    present = MigrationContext.configure(connection).get_current_revision()
    if present is not None:
        if present not in {revision.revision for revision in _script(scripts).walk_revisions()}:
            raise NewerDatabase(present, place)
        return present
    tables = inspect(connection).get_table_names()
    if tables:
        raise CannotStart(
            Refusal.DATABASE_FOREIGN,
            f"The database {place} holds tables ({', '.join(tables[:3])}…) but no schema revision: "
            "VisionMesh did not make it. Choose another folder with --data-dir, or another DATABASE_URL.",
        )
    return None


def _script(scripts: Path) -> ScriptDirectory:
    return ScriptDirectory(str(scripts))


def configuration(connection: Connection, scripts: Path = MIGRATIONS) -> Config:
    """Alembic's configuration for `connection`."""
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
