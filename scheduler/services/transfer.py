"""Bytes from a stream into a store, with the store's complaints as refusals."""

from collections.abc import AsyncIterable, AsyncIterator

import grpc

from visionmesh.errors import MeshError, Reason, invalid, not_found
from visionmesh.storage import BadKey, DigestMismatch, ObjectStore, StoredObject, StoreFull


async def stored(
    store: ObjectStore, key: str, chunks: AsyncIterable[bytes], size_bytes: int | None, sha256: str | None
) -> StoredObject:
    """Put `chunks` under `key`.

    Raises DATA_LOSS if they are not as announced, STORE_FULL without room, BAD_URI for an unfit path.
    """
    try:
        return await store.put(key, chunks, size_bytes=size_bytes, sha256=sha256)
    except BadKey as bad:
        text = f"the path cannot be stored: {bad}"
        raise invalid(Reason.BAD_URI, "header.path", text) from None
    except DigestMismatch as mismatch:
        text = f"The bytes are not as announced: {mismatch}. Nothing was stored; send them again."
        raise MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, text) from None
    except StoreFull:
        text = "The object store is full. Delete jobs or datasets, or give it more room, then send again."
        raise MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.STORE_FULL, text) from None


async def pieces(store: ObjectStore, key: str, name: str, offset: int = 0) -> AsyncIterator[bytes]:
    """The bytes of an object from `offset` on. Raises NOT_FOUND for `name` if it is gone from the store."""
    try:
        async for chunk in store.get(key, offset):
            yield chunk
    except FileNotFoundError:
        raise not_found("object", name) from None
