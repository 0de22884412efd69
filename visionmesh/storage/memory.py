"""A complete store in memory, for tests that need no disk."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from urllib.parse import quote, unquote

from visionmesh.storage.interface import (
    CHUNK_BYTES,
    DigestMismatch,
    ObjectStore,
    StoredObject,
    check_folder_prefix,
    check_key,
    check_offset,
    check_prefix,
)

_BASE = "memory:///"


class MemoryStore(ObjectStore):
    """A dictionary of bytes."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def check(self) -> None:
        """It is always there."""

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
        """Collect, compare, keep."""
        check_key(key)
        data = b"".join([chunk async for chunk in chunks])
        found = StoredObject(key, len(data), hashlib.sha256(data).hexdigest())
        if size_bytes not in {None, found.size_bytes} or sha256 not in {None, found.sha256}:
            raise DigestMismatch(f"{key} has {found.size_bytes} bytes and SHA-256 {found.sha256}")
        self._objects[key] = data
        return found

    async def get(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Slices of the bytes."""
        if check_key(key) not in self._objects:
            raise FileNotFoundError(key)
        data = self._objects[key]
        for start in range(check_offset(offset), len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]

    async def stat(self, key: str) -> StoredObject | None:
        """Size and digest."""
        data = self._objects.get(check_key(key))
        return None if data is None else StoredObject(key, len(data), hashlib.sha256(data).hexdigest())

    async def entries(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Keys in order."""
        check_prefix(prefix)
        for key in sorted(self._objects):
            if key.startswith(prefix) and (found := await self.stat(key)):
                yield found

    async def delete(self, key: str) -> None:
        """Forget."""
        self._objects.pop(check_key(key), None)

    async def delete_prefix(self, prefix: str) -> None:
        """Forget all below."""
        below = check_folder_prefix(prefix) + "/"
        for key in [key for key in self._objects if key.startswith(below)]:
            del self._objects[key]

    async def copy(self, source: str, target: str) -> None:
        """Two keys for the same bytes."""
        if check_key(source) not in self._objects:
            raise FileNotFoundError(source)
        self._objects[check_key(target)] = self._objects[source]

    def uri(self, key: str) -> str:
        """The key below memory:///."""
        return _BASE + quote(check_key(key))

    def key_of(self, uri: str) -> str | None:
        """What follows memory:///."""
        return check_key(unquote(uri.removeprefix(_BASE))) if uri.startswith(_BASE) else None
