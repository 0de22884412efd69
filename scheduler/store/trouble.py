"""What an error of a database amounts to; in words for SQLite's."""

import sqlite3
from enum import Enum, auto
from pathlib import Path

from scheduler.refusal import CannotStart, Refusal


class Trouble(Enum):
    """What may stand in the way of a running scheduler, and passes."""

    AWAY = auto()
    """The database cannot be used at present, whatever is asked of it."""

    FULL = auto()
    """It takes no more; reading goes on."""

    COLLISION = auto()
    """This very transaction did not get through."""


_WORDS = {
    "SQLITE_NOTADB": (
        Refusal.DATABASE_CORRUPT,
        "{path} is not an SQLite database: {error}. "
        "Put the right file there, move this one away, or choose another folder with --data-dir.",
    ),
    "SQLITE_CORRUPT": (
        Refusal.DATABASE_CORRUPT,
        "The database {path} is damaged: {error}. Put a backup in its place; `sqlite3 {path} .recover` "
        "gets out what can be read. Moving it away starts with an empty one.",
    ),
    "SQLITE_CANTOPEN": (
        Refusal.DATABASE_UNREADABLE,
        "The database {path} cannot be opened: {error}. "
        "See that it is a file, and that this user may read and write it and its folder.",
    ),
    "SQLITE_READONLY": (
        Refusal.DATABASE_UNREADABLE,
        "The database {path} cannot be written: {error}. "
        "See that this user may write it and its folder, and that the disk is not mounted read-only.",
    ),
    "SQLITE_FULL": (
        Refusal.DISK_FULL,
        "There is no room for the database {path}: {error}. "
        "Free some on its disk, or choose another folder with --data-dir.",
    ),
    "SQLITE_BUSY": (
        Refusal.DATABASE_LOCKED,
        "Another program holds the database {path}: {error}. `fuser {path}` tells which; stop it first.",
    ),
    "SQLITE_IOERR": (
        Refusal.DATABASE_UNREADABLE,
        "The database {path} cannot be read or written: {error}. "
        "See `dmesg` and the room on its disk, and check the disk.",
    ),
}
_SAME = {
    "SQLITE_PERM": "SQLITE_CANTOPEN",
    "SQLITE_AUTH": "SQLITE_CANTOPEN",
    "SQLITE_LOCKED": "SQLITE_BUSY",
    "SQLITE_PROTOCOL": "SQLITE_BUSY",
    "SQLITE_FORMAT": "SQLITE_NOTADB",
}


def explained(error: BaseException, path: Path) -> CannotStart | None:
    """The refusal that `error` amounts to; None if it is none of the database file's own troubles."""
    cause = sqlite_error(error)
    if cause is None:
        return None
    words = _WORDS.get("SQLITE_CANTOPEN" if path.is_dir() else _primary(cause))
    if words is None:
        return None
    reason, text = words
    return CannotStart(reason, text.format(path=path, error=cause))


def of_sqlite(error: BaseException) -> tuple[Trouble, str] | None:
    """What an error met while the scheduler runs amounts to, and why; None if it does not pass by itself."""
    cause = sqlite_error(error)
    match _primary(cause) if cause is not None else None:
        case "SQLITE_BUSY":
            return Trouble.AWAY, "Another program holds the database"
        case "SQLITE_FULL":
            return Trouble.FULL, "The database's disk is full"
        case "SQLITE_IOERR":
            return Trouble.AWAY, f"The database's file cannot be read or written ({cause})"
    return None


def _primary(error: sqlite3.Error) -> str:
    name = "_".join(error.sqlite_errorname.split("_")[:2])  # SQLITE_IOERR_WRITE is an SQLITE_IOERR
    return _SAME.get(name, name)


def damaged(path: Path, why: str) -> CannotStart:
    """The refusal of a database whose pages do not hold together."""
    reason, text = _WORDS["SQLITE_CORRUPT"]
    return CannotStart(reason, text.format(path=path, error=why))


def sqlite_error(error: BaseException | None) -> sqlite3.Error | None:
    """SQLite's own error below what the libraries above it have made of it."""
    while error is not None:
        if isinstance(error, sqlite3.Error) and hasattr(error, "sqlite_errorname"):
            return error
        error = getattr(error, "orig", None) or error.__cause__
    return None
