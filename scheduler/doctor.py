"""`python -m scheduler.doctor`: checks of what a scheduler of these settings would stand on.

Prints one JSON object per line. Changes nothing, and may run beside a scheduler.
"""

import argparse
import asyncio
import json
import secrets
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.exc import OperationalError

from scheduler import settings as configuration
from scheduler.lock import folder_lock, holder_of
from scheduler.media_store import configured
from scheduler.refusal import CannotStart
from scheduler.settings import BadSettings, Settings
from scheduler.store.engine import async_url, open_to_look, sqlite_file
from scheduler.store.migrate import MIGRATIONS, present_revision
from scheduler.store.postgres import CONNECT, refusal
from scheduler.store.trouble import damaged, explained
from visionmesh.doctor import Finding, ok, problem, warning
from visionmesh.storage import LocalStore, ObjectStore, StoreError, open_store

STORE_SECONDS = 20.0
"""Time that each object store has to answer."""

_PIECE_BYTES = 256 * 1024


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """One finding per check."""
    yield data_folder(settings.folder)
    yield await asyncio.to_thread(guarded, "database", lambda: database(settings.resolved_database_url()))
    for name, url in (
        ("datasets", settings.resolved_datasets_url()),
        ("artifacts", settings.resolved_artifacts_url()),
    ):
        yield await store(f"{name} store", url)
    if settings.media_store_url:
        yield await media_store(settings)


def guarded(check: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; a wrong setting is a problem too."""
    try:
        return look()
    except ValueError as error:
        return problem(check, str(error), "set it right, or leave it out")


def data_folder(folder: Path) -> Finding:
    """Who has the data folder."""
    holder = holder_of(folder_lock(folder))
    if holder is not None:
        return ok("data folder", f"{folder}, in use by the mesh at {holder.address} (process {holder.pid})")
    if not folder.exists():
        return ok("data folder", f"{folder} is not there yet; the first `vmesh up` makes it")
    if not folder.is_dir():
        return problem(
            "data folder", f"{folder} is no folder", "move it away, or choose another with --data-dir"
        )
    return ok("data folder", f"{folder}, not in use")


def database(url: str, scripts: Path = MIGRATIONS) -> Finding:
    """The database opens, is sound, and of this version. Raises ValueError for a URL that is none."""
    path = sqlite_file(url)
    if path is None:
        return _on_server(async_url(url), scripts)
    if not path.exists():
        return ok("database", f"{path} is not there yet; the first `vmesh up` makes it")
    try:
        return _sound(path, scripts)
    except sqlite3.Error as error:
        refusal = explained(error, path)
        seen = str(refusal) if refusal is not None else f"{path}: {error}"
        return problem("database", *_split(seen))


def _on_server(url: str, scripts: Path) -> Finding:
    """The server lets us in, and the schema is of this version."""
    parsed = make_url(url)
    place = parsed.set(drivername=parsed.get_backend_name()).render_as_string()
    if parsed.get_backend_name() != "postgresql":
        return problem("database", f"{place} names no file", "use sqlite:///PATH or postgresql://…")
    engine = create_engine(parsed, poolclass=NullPool, connect_args=CONNECT)
    try:
        with engine.connect() as connection:
            revision = present_revision(connection, scripts, place)
    except CannotStart as refused:
        return problem("database", *_split(str(refused)))
    except OperationalError as error:
        refused_by_server = refusal(error, place)
        seen = str(refused_by_server) if refused_by_server is not None else f"{place}: {error.orig}"
        return problem("database", *_split(seen))
    if revision is None:
        return ok("database", f"{place} is empty; the first `vmesh up` fills it")
    head = ScriptDirectory(str(scripts)).get_current_head()
    if revision != head:
        advice = "make a backup; the next `vmesh up` migrates it"
        return warning("database", f"{place}: revision {revision}, this version has {head}", advice)
    return ok("database", f"{place}: revision {revision}")


def _sound(path: Path, scripts: Path) -> Finding:
    with closing(open_to_look(path)) as connection:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            return problem("database", *_split(str(damaged(path, found))))
        if not tables:
            return ok("database", f"{path} is empty; the first `vmesh up` fills it")
        if "alembic_version" not in tables:
            advice = "choose another --data-dir or DATABASE_URL"
            return problem("database", f"{path} was not made by VisionMesh", advice)
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        jobs = connection.execute("SELECT count(*) FROM jobs").fetchone()[0] if "jobs" in tables else 0
    return _of_version(path, revision, jobs, ScriptDirectory(str(scripts)))


def _of_version(path: Path, revision: str, jobs: int, scripts: ScriptDirectory) -> Finding:
    head = scripts.get_current_head()
    if revision not in {known.revision for known in scripts.walk_revisions()}:
        advice = "start that version, or choose another folder with --data-dir"
        return problem("database", f"{path}: a newer VisionMesh wrote it (revision {revision})", advice)
    if revision != head:
        advice = "nothing: the next `vmesh up` makes a backup beside it and migrates it"
        return warning("database", f"{path}: revision {revision}, this version has {head}", advice)
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    count = "1 job" if jobs == 1 else f"{jobs} jobs"
    return ok("database", f"{path}: sound, revision {revision}, {count}, {size}")


def _split(refusal: str) -> tuple[str, str]:
    """What is wrong, and what to do: a refusal's first sentence, and the rest."""
    seen, _, advice = refusal.partition(". ")
    return seen, advice.rstrip(".")


async def store(check: str, url: str) -> Finding:
    """An object can be put, read, found by its digest, and removed."""
    try:
        opened = open_store(url, check.split()[0].upper())
    except ValueError as error:
        return problem(check, str(error), "set it right, or leave it out")
    if isinstance(opened, LocalStore) and not opened.root.exists():
        return await _before_it_is_made(check, opened.root)
    try:
        async with asyncio.timeout(STORE_SECONDS):
            return await round_trip(check, opened.root if isinstance(opened, LocalStore) else url, opened)
    except TimeoutError:
        return problem(check, f"{url} does not answer", "see that its server runs")
    finally:
        await opened.close()


async def media_store(settings: Settings) -> Finding:
    """The external media store answers."""
    check, advice = "media store", "see to it, or mend MEDIA_STORE_URL and MEDIA_STORE_TOKEN"
    try:
        images = configured(settings)
    except ValueError as error:
        return problem(check, str(error), "set it right, or leave it out")
    if images is None:
        return ok(check, "there is none")
    async with images.open():
        trouble = await images.trouble()
    if trouble:
        return problem(check, f"{settings.media_store_url} cannot be used: {trouble}", advice)
    return ok(check, f"{settings.media_store_url} answers")


async def _before_it_is_made(check: str, root: Path) -> Finding:
    """The same beside the place where the store will be, so that the folder is not made by a check."""
    place = next(folder for folder in root.parents if folder.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".visionmesh-doctor-", dir=place) as folder:
            return await round_trip(check, f"{root} is not there yet; in {place}", LocalStore(Path(folder)))
    except OSError as error:
        return problem(check, f"{place} cannot be written: {error.strerror}", "choose another --data-dir")


async def round_trip(check: str, where: object, opened: ObjectStore) -> Finding:
    """Put, look, get, delete; `where` is how the store is called."""
    key, data = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(2 * _PIECE_BYTES)
    try:
        await opened.put(key, _pieces(data), size_bytes=len(data), sha256=sha256(data).hexdigest())
        known = await opened.stat(key)
        read = b"".join([piece async for piece in opened.get(key)])
        await opened.delete(key)
        left = await opened.stat(key)
    except StoreError as error:
        return problem(check, *_split(str(error)))
    except Exception as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        return problem(check, f"{where} cannot be used: {why}", "see its rights and its disk's room")
    if (
        read != data
        or known is None
        or known.sha256 not in {None, sha256(data).hexdigest()}
        or left is not None
    ):
        return problem(check, f"{where} gives back something else than it took", "check its disk")
    return ok(check, f"{where}: put, read, compared and removed {len(data) // 1024} KiB")


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


async def _print_all(settings: Settings) -> None:
    async for finding in findings(settings):
        print(json.dumps(finding.as_object()), flush=True)


def main() -> None:
    """Check, and print."""
    parser = argparse.ArgumentParser(prog="python -m scheduler.doctor", description=__doc__)
    parser.add_argument("--data-dir", help="folder of database and objects (default ~/.visionmesh)")
    try:
        settings = configuration.read(**vars(parser.parse_args()))
    except BadSettings as bad:
        print(json.dumps(problem("settings", str(bad), "set it right, or leave it out").as_object()))
        return
    asyncio.run(_print_all(settings))


if __name__ == "__main__":
    main()
