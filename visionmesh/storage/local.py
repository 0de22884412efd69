"""Objects as files below one folder.

Digests of what was put are kept below `.digests/`, beside the objects, so that they need not be
computed again. Links are never followed: the folder is the store's alone.
"""

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from visionmesh.storage.interface import (
    CHUNK_BYTES,
    BadKey,
    DigestMismatch,
    ObjectStore,
    StoredObject,
    StoreFull,
    check_key,
)

_HIDDEN = (".digests", ".incoming")


class LocalStore(ObjectStore):
    """A folder of files."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    async def put(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        size_bytes: int | None = None,
        sha256: str | None = None,
    ) -> StoredObject:
        """Write beside, sync, then rename: a reader sees the old object or the new one."""
        target = self._path(key)
        incoming = self.root / ".incoming" / secrets.token_hex(8)
        try:
            size, digest = await self._receive(incoming, chunks)
            if size_bytes is not None and size != size_bytes:
                raise DigestMismatch(f"{key} has {size} bytes, {size_bytes} were announced")
            if sha256 is not None and digest != sha256:
                raise DigestMismatch(f"{key} has SHA-256 {digest}, {sha256} was announced")
            await asyncio.to_thread(self._publish, incoming, target, key, digest)
        except OSError as error:
            raise _translated(error) from error
        finally:
            await asyncio.to_thread(incoming.unlink, missing_ok=True)
        return StoredObject(key, size, digest)

    async def _receive(self, incoming: Path, chunks: AsyncIterable[bytes]) -> tuple[int, str]:
        await asyncio.to_thread(incoming.parent.mkdir, parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        file = await asyncio.to_thread(incoming.open, "xb")
        try:
            async for chunk in chunks:
                await asyncio.to_thread(_append, file, chunk, digest)
                size += len(chunk)
            await asyncio.to_thread(_sync, file)
        finally:
            await asyncio.to_thread(file.close)
        return size, digest.hexdigest()

    def _publish(self, incoming: Path, target: Path, key: str, digest: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._no_links(target)
        self._forget_digest(key)
        incoming.replace(target)
        beside = self._digest_path(key)
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(digest)
        _sync_folder(target.parent)

    async def get(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Read piece by piece; the file stays the same even if the object is replaced meanwhile."""
        path = self._path(key)
        self._no_links(path)
        file = await asyncio.to_thread(path.open, "rb")
        try:
            await asyncio.to_thread(file.seek, offset)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
        finally:
            await asyncio.to_thread(file.close)

    async def stat(self, key: str) -> StoredObject | None:
        """Size by the file, digest by what was noted."""
        return await asyncio.to_thread(self._stat, key)

    def _stat(self, key: str) -> StoredObject | None:
        path = self._path(key)
        if path.is_symlink() or not path.is_file():
            return None
        beside = self._digest_path(key)
        digest = beside.read_text() if beside.is_file() else None
        return StoredObject(key, path.stat().st_size, digest)

    async def entries(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Walk the folder that the prefix names, sorted."""
        for key in await asyncio.to_thread(self._keys, prefix):
            found = await self.stat(key)
            if found is not None:
                yield found

    def _keys(self, prefix: str) -> list[str]:
        start = self.root / prefix.rpartition("/")[0]
        if not start.is_dir() or not start.resolve().is_relative_to(self.root):
            return []
        keys = []
        for folder, subfolders, files in os.walk(start):
            subfolders[:] = [name for name in subfolders if name not in _HIDDEN]
            keys += [str((Path(folder) / name).relative_to(self.root)) for name in files]
        return sorted(key for key in keys if key.startswith(prefix))

    async def delete(self, key: str) -> None:
        """Remove the file and what was noted of it."""
        path = self._path(key)
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await asyncio.to_thread(self._forget_digest, key)

    async def delete_prefix(self, prefix: str) -> None:
        """Remove the folder."""
        if not prefix.endswith("/"):
            raise BadKey(f"a prefix to delete ends in a slash, not {prefix!r}")
        key = check_key(prefix.rstrip("/"))
        for folder in (self.root / key, self.root / ".digests" / key):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def copy(self, source: str, target: str) -> None:
        """A hard link where the file system has them: objects are replaced, never changed in place."""
        await asyncio.to_thread(self._copy, source, target)

    def _copy(self, source: str, target: str) -> None:
        origin, path = self._path(source), self._path(target)
        self._no_links(origin)
        incoming = self.root / ".incoming" / secrets.token_hex(8)
        incoming.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(origin, incoming)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(origin, incoming)
        noted = self._digest_path(source)
        digest = noted.read_text() if noted.is_file() else _digest_of(origin)
        try:
            self._publish(incoming, path, target, digest)
        finally:
            incoming.unlink(missing_ok=True)

    def uri(self, key: str) -> str:
        """The file as a file:// URI."""
        return self._path(key).as_uri()

    def key_of(self, uri: str) -> str | None:
        """The part of the path below the root."""
        base = self.root.as_uri() + "/"
        if not uri.startswith(base):
            return None
        return check_key(unquote(uri.removeprefix(base)))

    def _path(self, key: str) -> Path:
        if check_key(key).split("/")[0] in _HIDDEN:
            raise BadKey(f"{key!r} begins with a name that the store keeps for itself")
        return self.root / key

    def _digest_path(self, key: str) -> Path:
        return self.root / ".digests" / key

    def _forget_digest(self, key: str) -> None:
        self._digest_path(key).unlink(missing_ok=True)

    def _no_links(self, path: Path) -> None:
        if path.is_symlink() or not path.parent.resolve().is_relative_to(self.root):
            raise BadKey(f"{path.relative_to(self.root)} leads through a link")


def _append(file: BinaryIO, chunk: bytes, digest: "hashlib._Hash") -> None:
    file.write(chunk)
    digest.update(chunk)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _translated(error: OSError) -> Exception:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(str(error))
    return error
