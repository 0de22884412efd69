"""Bytes from a stream into a store, with the store's complaints as refusals."""

import math
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc

from scheduler.oversize import too_large
from visionmesh.errors import MeshError, Reason, invalid, not_found
from visionmesh.limits import MAX_CHUNK_BYTES
from visionmesh.storage import BadKey, DigestMismatch, ObjectStore, StoredObject, StoreFull


async def bytes_of(requests: AsyncIterable[Any], max_bytes: float = math.inf) -> AsyncIterator[bytes]:
    """The pieces of a file, which are all that may follow its header.

    Raises INVALID_ARGUMENT for anything else, MESSAGE_TOO_LARGE for a piece or a file that is too large.
    """
    total = 0
    async for request in requests:
        if request.WhichOneof("message") != "chunk":
            text = "after the header come pieces of the file and nothing else. Begin again with one header."
            raise invalid(Reason.INVALID_ARGUMENT, "chunk", text)
        if len(request.chunk) > MAX_CHUNK_BYTES:
            instead = "Send the file in smaller pieces."
            raise too_large("chunk", "The piece", len(request.chunk), MAX_CHUNK_BYTES, instead)
        total += len(request.chunk)
        if total > max_bytes:
            raise file_too_large(total, int(max_bytes))
        yield request.chunk


def file_too_large(size_bytes: int, limit_bytes: int) -> MeshError:
    """RESOURCE_EXHAUSTED: the scheduler takes no such file."""
    instead = "Split it, or start the scheduler with a larger MAX_UPLOAD_BYTES."
    return too_large("header.size_bytes", "The file", size_bytes, limit_bytes, instead)


async def stored(
    store: ObjectStore, key: str, chunks: AsyncIterable[bytes], size_bytes: int | None, sha256: str | None
) -> StoredObject:
    """Put `chunks` under `key`.

    Raises DATA_LOSS if they are not as announced, STORE_FULL without room, BAD_URI for an unfit path.
    """
    try:
        return await store.put(key, chunks, size_bytes=size_bytes, sha256=sha256)
    except BadKey as bad:
        text = f"the path cannot be stored: {bad}. Choose another path, inside the attempt's own folder."
        raise invalid(Reason.BAD_URI, "header.path", text) from None
    except DigestMismatch as mismatch:
        text = f"The bytes are not as announced: {mismatch}. Nothing was stored; send them again."
        raise MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, text) from None
    except StoreFull:
        text = "The object store is full. Delete jobs or datasets, or give it more room, then send again."
        raise MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.STORE_FULL, text) from None


async def pieces(store: ObjectStore, key: str, name: str, offset: int = 0) -> AsyncIterator[bytes]:
    """The bytes of an object from `offset` on.

    Raises NOT_FOUND for `name` if it is gone from the store, DATA_LOSS if it is not what was stored.
    """
    try:
        async for chunk in store.get(key, offset):
            yield chunk
    except FileNotFoundError:
        raise not_found("object", name) from None
    except DigestMismatch as mismatch:
        text = f"What came is not what was stored: {mismatch}. Throw it away, and fetch it again."
        raise MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, text) from None
