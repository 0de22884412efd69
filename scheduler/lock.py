"""One scheduler per data folder, and one per SQLite file.

Each is marked by a lock file that the scheduler holds with flock while it runs. The kernel lets go
of it however the process ends, so a lock is never stale; the file stays, because removing it would
let two processes hold "the" lock.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scheduler.refusal import CannotStart, Refusal, unusable_folder


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as far as it has said."""

    pid: int
    """0 if it has not said."""

    address: str
    """Empty until it serves."""


class Claim:
    """The locks of a running scheduler."""

    def __init__(self, files: list[IO[str]]) -> None:
        self._files = files

    def announce(self, address: str = "") -> None:
        """Note who we are, for others that want the same folder or database."""
        for file in self._files:
            file.seek(0)
            file.truncate()
            json.dump({"pid": os.getpid(), "address": address}, file)
            file.flush()


@contextmanager
def claimed(folder: Path, database: Path | None) -> Iterator[Claim]:
    """Hold the data folder and the SQLite file, where there is one. Raises CannotStart."""
    with ExitStack() as stack:
        files = [stack.enter_context(_locked(folder, folder_lock(folder)))]
        if database is not None:
            files.append(stack.enter_context(_locked(database, database_lock(database))))
        claim = Claim(files)
        try:
            claim.announce()
        except OSError as error:
            raise unusable_folder(folder, error) from error
        yield claim


def folder_lock(folder: Path) -> Path:
    """The lock file of a data folder."""
    return folder / "scheduler.lock"


def database_lock(database: Path) -> Path:
    """The lock file of an SQLite file."""
    return database.with_name(database.name + ".lock")


def holder_of(lock: Path) -> Holder | None:
    """Who holds `lock` at this moment; None if nobody does."""
    try:
        with lock.open("r") as file:
            return None if _try(file, fcntl.LOCK_SH) else _read(file)
    except OSError:
        return None


@contextmanager
def _locked(what: Path, lock: Path) -> Iterator[IO[str]]:
    with _open(lock) as file:
        if not _try(file, fcntl.LOCK_EX):
            raise _in_use(what, _read(file))
        yield file


def _open(lock: Path) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("a+")
    except OSError as error:
        raise unusable_folder(lock.parent, error) from error


def _try(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> Holder:
    file.seek(0)
    try:
        noted = json.load(file)
        return Holder(int(noted["pid"]), str(noted["address"]))
    except (ValueError, KeyError, TypeError):  # it is writing at this moment
        return Holder(0, "")


def _in_use(what: Path, holder: Holder) -> CannotStart:
    who = f" (process {holder.pid})" if holder.pid else ""
    where = f", at {holder.address}" if holder.address else ""
    use = f"Use that one with --address {holder.address}" if holder.address else "Use that one"
    return CannotStart(
        Refusal.DATA_DIR_IN_USE,
        f"Another scheduler{who} runs on {what} already{where}. "
        f"{use}, stop it, or choose another folder with --data-dir.",
    )
