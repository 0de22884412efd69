"""Folders as zip archives, and their digest."""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from visionmesh import errors
from visionmesh.errors import Reason

_READ_BYTES = 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that zip knows: the same files give the same bytes


def folder_files(folder: Path) -> list[tuple[Path, str]]:
    """The files below `folder` with their names in an archive, in order; hidden ones are left out.

    Raises MeshError (DATASET_INVALID) if there is none.
    """
    files = [
        (path, path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise errors.invalid(Reason.DATASET_INVALID, str(folder), "the folder holds no files")
    return sorted(files, key=lambda file: file[1])


def files_of(source: Path) -> list[tuple[Path, str]] | None:
    """What is in a folder; None for a file."""
    return folder_files(source) if source.is_dir() else None


def archive_name(folder: Path) -> str:
    """What the zip of a folder is called."""
    return f"{folder.name or 'dataset'}.zip"


def write_archive(
    files: Sequence[tuple[Path, str]], target: Path, keep_going: Callable[[], bool] = lambda: True
) -> None:
    """Write `files` (path, name in the archive) to a zip file, uncompressed: images are compressed already.

    `keep_going` is asked between files; the work is given up when it says no.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path, name in files:
            if not keep_going():
                return
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                while block := source.read(_READ_BYTES):
                    sink.write(block)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256, hexadecimal, over a line "sha256 size path" for each file in order of path."""
    digest = hashlib.sha256()
    for path, name in folder_files(folder):
        digest.update(f"{file_digest(path)} {path.stat().st_size} {name}\n".encode())
    return digest.hexdigest()
