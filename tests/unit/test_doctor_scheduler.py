"""The scheduler's own checks: settings, data folder, database, stores. Real files, nothing changed."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from scheduler import settings
from scheduler.doctor import data_folder, database, findings, guarded, round_trip, store
from scheduler.lock import claimed
from scheduler.store.engine import Database
from scheduler.store.migrate import MIGRATIONS, upgrade
from visionmesh.doctor import Finding, Verdict
from visionmesh.storage import MemoryStore

HEAD = str(ScriptDirectory(str(MIGRATIONS)).get_current_head())


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database of this version that nobody has open."""
    opened = Database(f"sqlite:///{tmp_path}/visionmesh.db")
    await upgrade(opened)
    await opened.close()
    return tmp_path / "visionmesh.db"


def looked(path: Path) -> Finding:
    return guarded("database", lambda: database(f"sqlite:///{path}"))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_sound_database_is_looked_at_without_a_trace(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    found = looked(path)
    assert found.verdict is Verdict.OK
    assert f"sound, revision {HEAD}, 0 jobs" in found.seen
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


async def test_a_database_is_looked_at_while_a_mesh_writes_to_it(path: Path) -> None:
    opened = Database(f"sqlite:///{path}")
    async with opened.write():
        assert looked(path).verdict is Verdict.OK
    await opened.close()


def test_a_database_that_is_behind_is_a_warning_and_stays_as_it_is(path: Path, tmp_path: Path) -> None:
    versions = tmp_path / "scripts" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "scripts" / "env.py").touch()
    for revision, below in ((HEAD, None), ("9999", HEAD)):
        (versions / f"{revision}.py").write_text(f"revision, down_revision = {revision!r}, {below!r}\n")
    found = database(f"sqlite:///{path}", tmp_path / "scripts")
    assert found.verdict is Verdict.WARNING
    assert f"revision {HEAD}, this version has 9999" in found.seen
    assert looked(path).verdict is Verdict.OK


def test_a_newer_database_is_a_problem(path: Path) -> None:
    change(path, "UPDATE alembic_version SET version_num = '9999'")
    found = looked(path)
    assert found.verdict is Verdict.PROBLEM
    assert "a newer VisionMesh wrote it (revision 9999)" in found.seen


def test_a_damaged_database_is_a_problem(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 20))
    found = looked(path)
    assert found.verdict is Verdict.PROBLEM
    assert "damaged" in found.seen
    assert "backup" in found.advice


@pytest.mark.parametrize("make", ["text", "folder", "songs"])
def test_what_is_not_our_database_is_a_problem(tmp_path: Path, make: str) -> None:
    path = tmp_path / "visionmesh.db"
    if make == "text":
        path.write_text("no database at all " * 100)
    elif make == "folder":
        path.mkdir()
    else:
        change(path, "CREATE TABLE songs (name TEXT)")
    found = looked(path)
    assert found.verdict is Verdict.PROBLEM
    assert str(path) in found.seen
    assert found.advice


def test_a_database_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    assert looked(tmp_path / "visionmesh.db").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db"])
def test_a_database_url_that_cannot_be_used_is_a_problem(url: str) -> None:
    assert guarded("database", lambda: database(url)).verdict is Verdict.PROBLEM


def test_the_data_folder_tells_who_has_it(tmp_path: Path) -> None:
    assert "not there yet" in data_folder(tmp_path / "new").seen
    assert "not in use" in data_folder(tmp_path).seen
    with claimed(tmp_path, None) as claim:
        claim.announce("127.0.0.1:50051")
        assert f"in use by the mesh at 127.0.0.1:50051 (process {os.getpid()})" in data_folder(tmp_path).seen
    assert "not in use" in data_folder(tmp_path).seen
    (tmp_path / "file").touch()
    assert data_folder(tmp_path / "file").verdict is Verdict.PROBLEM


async def test_a_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    found = await store("artifacts store", (tmp_path / "artifacts").as_uri())
    assert found.verdict is Verdict.OK
    assert files(tmp_path) == []


async def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = await store("artifacts store", (tmp_path / "a" / "b").as_uri())
    assert found.verdict is Verdict.OK
    assert entries(tmp_path) == []


async def test_a_file_in_the_place_of_a_store_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "artifacts").touch()
    found = await store("artifacts store", (tmp_path / "artifacts").as_uri())
    assert found.verdict is Verdict.PROBLEM
    assert "Not a directory" in found.seen


async def test_a_store_that_is_none_is_a_problem() -> None:
    assert (await store("artifacts store", "ftp://host/x")).verdict is Verdict.PROBLEM


async def test_a_store_that_gives_back_something_else_is_a_problem() -> None:
    class Forgetful(MemoryStore):
        async def get(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
            async for piece in super().get(key, offset):
                yield piece[:-1]

    assert (await round_trip("store", "memory", MemoryStore())).verdict is Verdict.OK
    found = await round_trip("store", "memory", Forgetful())
    assert found.verdict is Verdict.PROBLEM
    assert "something else" in found.seen


async def test_all_of_it_on_a_new_folder_is_fine_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "DATASETS_URL", "ARTIFACTS_URL"):
        monkeypatch.delenv(name, raising=False)
    found = [finding async for finding in findings(settings.read(data_dir=tmp_path / "data"))]
    assert [finding.check for finding in found] == [
        "data folder",
        "database",
        "datasets store",
        "artifacts store",
    ]
    assert {finding.verdict for finding in found} == {Verdict.OK}
    assert entries(tmp_path) == []


def test_a_wrong_setting_is_told_as_a_problem(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "scheduler.doctor", "--data-dir", str(tmp_path)],
        env={**os.environ, "LEASE_SECONDS": "soon"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = Finding.from_object(json.loads(ran.stdout))
    assert found.verdict is Verdict.PROBLEM
    assert "lease_seconds = 'soon'" in found.seen
