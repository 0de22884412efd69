"""Files below a local store: durable writes, notes of digests, errors in the store's words."""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from visionmesh.storage.interface import CHUNK_BYTES, BadKey, StoreFull

File: TypeAlias = BinaryIO

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})


async def read_chunks(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, without blocking the event loop. Raises OSError."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()


def append(file: File, chunk: bytes, digest: "hashlib._Hash") -> None:
    """Write a piece, and count it into the digest."""
    file.write(chunk)
    digest.update(chunk)


def sync(file: File) -> None:
    """Have the bytes on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the folder's names on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(origin: Path, target: Path) -> None:
    """A second name for a file, or a synced copy where the file system has no hard links."""
    try:
        os.link(origin, target)
    except FileNotFoundError:
        raise
    except OSError:
        with origin.open("rb") as source, target.open("xb") as file:
            shutil.copyfileobj(source, file)
            sync(file)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_of(path: Path, digest: str) -> str:
    """What is noted of a file: its digest, and which file it was."""
    return f"{digest} {_identity(path)}\n"


def noted_digest(note: Path, path: Path) -> str | None:
    """The digest in `note`; None if there is none, it is torn, or it was made for another file."""
    try:
        digest, _, identity = note.read_text("ascii").rstrip("\n").partition(" ")
    except (OSError, ValueError):
        return None
    return digest if identity == _identity(path) else None


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, even if somebody else is at it as well."""
    while folder.is_dir():
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:  # the other one was quicker; what it left is for the next round
            continue


def prune(folder: Path, root: Path) -> None:
    """Remove `folder` and those above it, below `root`, as far as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def translated(error: OSError, key: str) -> Exception:
    """What the store raises for an error of the file system while it writes `key`."""
    if error.errno in _FULL:
        return StoreFull(f"there is no room for {key!r}: {error.strerror}")
    if error.errno in _IN_THE_WAY:
        return BadKey(f"{key!r} lies below another object, or has objects below it")
    return error
