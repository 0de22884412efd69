"""Objects as files below one folder.

Digests of what was put are noted below `.digests/`, beside the objects, so that they need not be
computed again. A note counts only for the very file that it was made for (inode, time, size): a
file that was replaced, or changed by hand, has no known digest rather than a wrong one.
Links are never followed: the folder is the store's alone.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from urllib.parse import unquote

from visionmesh.storage import _files
from visionmesh.storage.interface import (
    CHUNK_BYTES,
    BadKey,
    DigestMismatch,
    ObjectStore,
    StoredObject,
    check_folder_prefix,
    check_key,
    check_offset,
    check_prefix,
    is_key,
)

_DIGESTS, _INCOMING = ".digests", ".incoming"
_HIDDEN = frozenset({_DIGESTS, _INCOMING})
_MAX_SEGMENT_BYTES = 255
_TRIES = 20


class LocalStore(ObjectStore):
    """A folder of files. The folder is made when the first object comes."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    async def check(self) -> None:
        """Nothing to ask: the folder is made when it is needed."""

    async def close(self) -> None:
        """Nothing is kept open."""

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
        incoming = self._new_incoming()
        try:
            size, digest = await self._receive(incoming, chunks)
            if size_bytes is not None and size != size_bytes:
                raise DigestMismatch(f"{key} has {size} bytes, {size_bytes} were announced")
            if sha256 is not None and digest != sha256:
                raise DigestMismatch(f"{key} has SHA-256 {digest}, {sha256} was announced")
            await asyncio.to_thread(self._publish, incoming, target, key, digest)
        except OSError as error:
            raise _files.translated(error, key) from error
        finally:
            await asyncio.to_thread(incoming.unlink, missing_ok=True)
        return StoredObject(key, size, digest)

    async def _receive(self, incoming: Path, chunks: AsyncIterable[bytes]) -> tuple[int, str]:
        await asyncio.to_thread(incoming.parent.mkdir, parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        file = await asyncio.to_thread(incoming.open, "xb")
        try:
            async for chunk in chunks:
                await asyncio.to_thread(_files.append, file, chunk, digest)
                size += len(chunk)
            await asyncio.to_thread(_files.sync, file)
        finally:
            await asyncio.to_thread(file.close)
        return size, digest.hexdigest()

    def _publish(self, incoming: Path, target: Path, key: str, digest: str) -> None:
        self._refuse_links(target)
        noted = _files.note_of(incoming, digest)
        for left in reversed(range(_TRIES)):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                incoming.replace(target)
                break
            except (FileNotFoundError, FileExistsError):  # a delete took the empty folder away in between
                if not left:
                    raise
        self._note(key, noted)
        _files.sync_folder(target.parent)

    def _note(self, key: str, noted: str) -> None:
        note = self._digest_path(key)
        with contextlib.suppress(OSError):  # the object is stored; its digest is just not known then
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(noted)

    def _forget_note(self, key: str) -> None:
        note = self._digest_path(key)
        with contextlib.suppress(OSError):  # a note without its file says nothing
            note.unlink()
        _files.prune(note.parent, self.root / _DIGESTS)

    async def get(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Read piece by piece; the file stays the same even if the object is replaced meanwhile."""
        path = self._path(key)
        check_offset(offset)
        file = await self._opened(path)
        try:
            await asyncio.to_thread(file.seek, offset)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
        finally:
            file.close()  # at once: a thread would never come to it if this is cancelled once more

    async def _opened(self, path: Path) -> _files.File:
        """Open in a thread; a caller that goes away meanwhile leaves no open file behind."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._open, path))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise

    def _open(self, path: Path) -> _files.File:
        self._refuse_links(path)
        try:
            return path.open("rb")
        except (IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from None

    async def stat(self, key: str) -> StoredObject | None:
        """Size by the file, digest by what was noted."""
        return await asyncio.to_thread(self._stat, key)

    def _stat(self, key: str) -> StoredObject | None:
        path = self._path(key)
        if self._leads_through_link(path) or not path.is_file():
            return None
        return StoredObject(key, path.stat().st_size, _files.noted_digest(self._digest_path(key), path))

    async def entries(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Walk the folder that the prefix names, sorted."""
        for key in await asyncio.to_thread(self._keys, prefix):
            found = await self.stat(key)
            if found is not None:
                yield found

    def _keys(self, prefix: str) -> list[str]:
        folder = check_prefix(prefix)
        start = self._path(folder) if folder else self.root
        if folder and self._leads_through_link(start):
            return []
        keys: list[str] = []
        for place, subfolders, files in os.walk(start):
            if Path(place) == self.root:
                subfolders[:] = [name for name in subfolders if name not in _HIDDEN]
            keys += [(Path(place) / name).relative_to(self.root).as_posix() for name in files]
        return sorted(key for key in keys if key.startswith(prefix) and is_key(key))

    async def delete(self, key: str) -> None:
        """Remove the file, what was noted of it, and folders that are empty then."""
        await asyncio.to_thread(self._delete, key)

    def _delete(self, key: str) -> None:
        path = self._path(key)
        self._refuse_links(path)
        if path.is_file():
            path.unlink(missing_ok=True)
            self._forget_note(key)
            _files.prune(path.parent, self.root)

    async def delete_prefix(self, prefix: str) -> None:
        """Remove the folder."""
        await asyncio.to_thread(self._delete_folder, check_folder_prefix(prefix))

    def _delete_folder(self, key: str) -> None:
        folder = self._path(key)
        self._refuse_links(folder)
        if folder.is_dir():
            _files.remove_tree(folder)
            _files.remove_tree(self._digest_path(key))
            self._forget_note(key)  # prunes
            _files.prune(folder.parent, self.root)

    async def copy(self, source: str, target: str) -> None:
        """A hard link where the file system has them: objects are replaced, never changed in place."""
        await asyncio.to_thread(self._copy, source, target)

    def _copy(self, source: str, target: str) -> None:
        origin, path = self._path(source), self._path(target)
        self._refuse_links(origin)
        if not origin.is_file():
            raise FileNotFoundError(source)
        incoming = self._new_incoming()
        try:
            incoming.parent.mkdir(parents=True, exist_ok=True)
            digest = _files.noted_digest(self._digest_path(source), origin) or _files.digest_of(origin)
            _files.link_or_copy(origin, incoming)
            self._publish(incoming, path, target, digest)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _files.translated(error, target) from error
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
        key = unquote(uri.removeprefix(base))
        self._path(key)
        return key

    def _path(self, key: str) -> Path:
        segments = check_key(key).split("/")
        if segments[0] in _HIDDEN:
            raise BadKey(f"{key!r} begins with a name that the store keeps for itself")
        if any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
            raise BadKey(f"{key!r} has a segment of more than {_MAX_SEGMENT_BYTES} bytes")
        return self.root / key

    def _digest_path(self, key: str) -> Path:
        return self.root / _DIGESTS / key

    def _new_incoming(self) -> Path:
        return self.root / _INCOMING / secrets.token_hex(8)

    def _leads_through_link(self, path: Path) -> bool:
        return path.is_symlink() or not path.parent.resolve().is_relative_to(self.root)

    def _refuse_links(self, path: Path) -> None:
        if self._leads_through_link(path):
            raise BadKey(f"{path.relative_to(self.root)} leads through a link")


def _close(opening: "asyncio.Future[_files.File]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
