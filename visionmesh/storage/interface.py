"""What every object store does."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

from visionmesh.storage.s3_settings import S3Settings

CHUNK_BYTES = 256 * 1024
MAX_KEY_BYTES = 1024


class BadKey(ValueError):
    """The key could name something outside the store, or nothing at all."""


class DigestMismatch(Exception):
    """The bytes do not have the announced size or digest; nothing was stored."""


class StoreFull(Exception):
    """There is no room; nothing was stored."""


class StoreError(Exception):
    """The store did not do it. The message says what, why, and what to do next."""


class StoreUnavailable(StoreError):
    """It cannot be reached or does not answer, though it was tried several times. That may pass."""


class StoreRefused(StoreError):
    """It does not let us in, or not do that: no, wrong or expired credentials, or too few rights."""


class NoCredentials(StoreRefused):
    """There are none to ask it with."""


class BucketMissing(StoreError):
    """The bucket does not exist."""


class ObjectChanged(StoreError):
    """The object was replaced while it was read. Read it anew."""


@dataclass(frozen=True)
class StoredObject:
    """What is known of an object."""

    key: str
    size_bytes: int
    sha256: str | None
    """Hexadecimal; None where it is not known without reading the object."""


def check_key(key: str) -> str:
    """Return `key` if it is fit to name an object. Raises BadKey."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:  # half a surrogate pair: no UTF-8, so no file name and no URI
        raise BadKey(f"{key!r} is not Unicode text") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise BadKey(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {size}")
    if any(ord(character) < 32 or character in "\\\x7f" for character in key):
        raise BadKey(f"{key!r} holds a control character or a backslash")
    if any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise BadKey(f"{key!r} holds an empty segment, '.' or '..'")
    return key


def is_key(name: str) -> bool:
    """Whether what somebody else put into the store can be named at all."""
    try:
        check_key(name)
    except BadKey:
        return False
    return True


def check_folder_prefix(prefix: str) -> str:
    """The key of the folder that `prefix` names; it must end in a slash. Raises BadKey."""
    if not prefix.endswith("/"):
        raise BadKey(f"a prefix to delete ends in a slash, not {prefix!r}")
    return check_key(prefix[:-1])


def check_prefix(prefix: str) -> str:
    """The key of the folder in which keys that begin with `prefix` lie; "" for the whole store.

    Raises BadKey.
    """
    folder, slash, _ = prefix.rpartition("/")
    return check_key(folder) if slash else ""


def check_offset(offset: int) -> int:
    """Return `offset` if an object can be read from there. Raises ValueError."""
    if offset < 0:
        raise ValueError(f"an offset is counted from the start: at least 0, not {offset}")
    return offset


class ObjectStore(ABC):
    """Objects by key. Everything streams; an object is there whole, or not at all.

    Everything that asks a store on the network may raise StoreError.
    """

    @property
    def location(self) -> tuple[str, S3Settings] | None:
        """URL and server of a bucket, which others may use too; None for what only this process has."""
        return None

    @abstractmethod
    async def check(self) -> None:
        """Raise StoreError unless the store can be used."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections; it connects anew if it is used again."""

    @abstractmethod
    async def put(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        size_bytes: int | None = None,
        sha256: str | None = None,
    ) -> StoredObject:
        """Store an object, replacing one of the same key. Raises DigestMismatch, StoreFull, BadKey.

        A key that lies below another object's key ("a/b" beside "a") may be refused with BadKey.
        """

    @abstractmethod
    def get(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of an object from `offset` on; none past its end.

        Raises FileNotFoundError, BadKey, or ValueError for a negative offset, at the first piece. A store
        on the network raises ObjectChanged rather than mix two objects, and DigestMismatch after the last
        piece if what came from offset 0 has not the digest that the object was stored with.
        """

    @abstractmethod
    async def stat(self, key: str) -> StoredObject | None:
        """What is known of an object, or None."""

    @abstractmethod
    def entries(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object whose key begins with `prefix` (all for ""), in order of key. Raises BadKey.

        Their digests may be missing where each would have to be asked for.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove an object; fine if there is none."""

    @abstractmethod
    async def delete_prefix(self, prefix: str) -> None:
        """Remove every object below `prefix`. Raises BadKey unless it ends in a slash."""

    @abstractmethod
    async def copy(self, source: str, target: str) -> None:
        """Make `target` the same object as `source`. Raises FileNotFoundError."""

    @abstractmethod
    def uri(self, key: str) -> str:
        """Where an object lies, as URI."""

    @abstractmethod
    def key_of(self, uri: str) -> str | None:
        """The key in a URI of this store; None if it is not of this store. Raises BadKey."""
