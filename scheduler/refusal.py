"""Why a scheduler does not start, in words that reach the terminal of whoever started it."""

import errno
from enum import StrEnum
from pathlib import Path


class Refusal(StrEnum):
    """Machine-readable reasons not to start."""

    BAD_SETTING = "BAD_SETTING"
    PORT_UNAVAILABLE = "PORT_UNAVAILABLE"
    DATA_DIR_IN_USE = "DATA_DIR_IN_USE"
    DATA_DIR_UNUSABLE = "DATA_DIR_UNUSABLE"
    DISK_FULL = "DISK_FULL"
    DATABASE_NEWER = "DATABASE_NEWER"
    DATABASE_FOREIGN = "DATABASE_FOREIGN"
    DATABASE_CORRUPT = "DATABASE_CORRUPT"
    DATABASE_UNREADABLE = "DATABASE_UNREADABLE"
    DATABASE_LOCKED = "DATABASE_LOCKED"
    DATABASE_UNREACHABLE = "DATABASE_UNREACHABLE"
    MIGRATION_FAILED = "MIGRATION_FAILED"
    STORE_UNUSABLE = "STORE_UNUSABLE"


class CannotStart(Exception):
    """The scheduler refuses to start; the message says what, why and what to do next."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def unusable_folder(folder: Path, error: OSError) -> CannotStart:
    """What `error`, met while writing below `folder`, means for whoever starts a scheduler."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        text = f"There is no room left on the disk of {folder}. Free some, or choose another folder"
        return CannotStart(Refusal.DISK_FULL, f"{text} with --data-dir.")
    in_the_way = error.errno in {errno.EEXIST, errno.ENOTDIR}
    why = "a file is in its way" if in_the_way else error.strerror or str(error)
    text = f"The folder {folder} cannot be written: {why}. Mend that, or choose another folder"
    return CannotStart(Refusal.DATA_DIR_UNUSABLE, f"{text} with --data-dir.")
