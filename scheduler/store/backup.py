"""A consistent copy of an SQLite file beside it."""

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path


class BadCopy(Exception):
    """The copy has damaged pages, and so has the original; nothing is kept of it."""


def back_up(path: Path, revision: str, now: datetime) -> Path:
    """Copy the database at `path`; the copy's name says its revision and the time, in UTC.

    Takes what is committed, the write-ahead log included, and checks the copy. It gets its name when
    it is whole. Raises sqlite3.Error, OSError or BadCopy, and leaves nothing behind then.
    """
    target = _free(path.with_name(f"{path.name}.backup-{revision}-{now:%Y%m%dT%H%M%SZ}"))
    scratch = target.with_name(target.name + ".part")
    try:
        _copy(path, scratch)
        _sync(scratch)
        scratch.rename(target)
        _sync(target.parent)
    finally:
        for leftover in (scratch, Path(f"{scratch}-journal"), Path(f"{scratch}-wal"), Path(f"{scratch}-shm")):
            leftover.unlink(missing_ok=True)
    return target


def _copy(path: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise BadCopy(found)


def _free(path: Path) -> Path:
    """`path`, or with a number behind it where that is taken: no backup is ever overwritten."""
    taken, number = path, 1
    while taken.exists():
        number += 1
        taken = path.with_name(f"{path.name}-{number}")
    return taken


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
