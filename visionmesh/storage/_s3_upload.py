"""Puts an object into a bucket: small ones at once, large ones in parts, several at a time.

An object becomes visible only when everything has arrived and is as announced: a part is compared by
the server with the SHA-256 that its request is signed with, the whole by us before the parts are joined.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from visionmesh.storage._s3_client import BROKEN, Bucket, code_of
from visionmesh.storage.interface import DigestMismatch, StoredObject, StoreError, StoreFull

PART_BYTES = 8 * 1024 * 1024
PARTS_AT_A_TIME = 2
"""So one upload holds about 24 MiB: these parts, and the one that is being collected."""

MAX_PARTS = 10_000
DIGEST_TRIES = 3
"""Times that a part may arrive damaged."""

SHA256 = "sha256"
"""Name of the digest among an object's metadata."""


class Upload:
    """One object on its way into a bucket."""

    def __init__(
        self, bucket: Bucket, path: str, key: str, size_bytes: int | None, sha256: str | None
    ) -> None:
        """`path` is the key in the bucket, `key` the one in the store; the rest is announced, if known."""
        self._bucket, self._path, self._key = bucket, path, key
        self._announced = size_bytes, sha256
        self._part_bytes = max(PART_BYTES, -(-(size_bytes or 0) // MAX_PARTS))
        self._size, self._digest = 0, hashlib.sha256()

    async def run(self, chunks: AsyncIterable[bytes]) -> StoredObject:
        """Send everything. Raises DigestMismatch, StoreFull, StoreError, or what `chunks` raises."""
        parts = self._parts(chunks)
        first = await anext(parts, b"")
        if len(first) < self._part_bytes:
            await self._send_whole(first)
        else:
            await self._send_parts(first, parts)
        return StoredObject(self._key, self._size, self._digest.hexdigest())

    async def _parts(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pieces of equal size, but for the last; counted and hashed."""
        waiting: list[bytes] = []
        length = 0
        async for chunk in chunks:
            for piece in self._cut(chunk, self._part_bytes - length):
                waiting.append(piece)
                length += len(piece)
                if length == self._part_bytes:
                    yield await self._part(waiting)
                    waiting, length = [], 0
        if waiting:
            yield await self._part(waiting)

    def _cut(self, chunk: bytes, room: int) -> list[bytes]:
        if len(chunk) <= room:
            return [chunk] if chunk else []
        rest = range(room, len(chunk), self._part_bytes)
        return [chunk[:room], *(chunk[start : start + self._part_bytes] for start in rest)]

    async def _part(self, pieces: list[bytes]) -> bytes:
        part = b"".join(pieces)
        self._size += len(part)
        await asyncio.to_thread(self._digest.update, part)
        return part

    async def _send_whole(self, data: bytes) -> None:
        self._compare()
        metadata = {SHA256: self._digest.hexdigest()}
        client = await self._bucket.client()
        await self._undamaged(
            lambda: client.put_object(
                Bucket=self._bucket.name, Key=self._path, Body=io.BytesIO(data), Metadata=metadata
            )
        )

    async def _send_parts(self, first: bytes, parts: AsyncIterator[bytes]) -> None:
        _, sha256 = self._announced
        client = await self._bucket.client()
        where = {"Bucket": self._bucket.name, "Key": self._path}
        metadata = {SHA256: sha256} if sha256 else {}  # else it is known only when it is too late to note it
        with self._bucket.translated():
            begun = await client.create_multipart_upload(**where, Metadata=metadata)
        where["UploadId"] = begun["UploadId"]
        try:
            tags = await self._all_parts(client, where, first, parts)
            self._compare()
            await self._join(client, where, tags)
        except BaseException:
            await asyncio.shield(self._abort(client, where))
            raise

    async def _all_parts(
        self, client: Any, where: dict[str, str], first: bytes, parts: AsyncIterator[bytes]
    ) -> list[str]:
        """The entity tags of the parts, in order."""
        tasks: list[asyncio.Task[str]] = []
        try:
            part: bytes = first
            while part:
                tasks.append(asyncio.create_task(self._send_part(client, where, len(tasks) + 1, part)))
                await _below(PARTS_AT_A_TIME, tasks)
                part = await anext(parts, b"")
                if len(tasks) == MAX_PARTS and part:
                    limit = MAX_PARTS * self._part_bytes // 2**30
                    raise StoreFull(f"{self._key!r} has more than {limit} GiB: announce its size beforehand")
            await _below(1, tasks)
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_part(self, client: Any, where: dict[str, str], number: int, part: bytes) -> str:
        answer = await self._undamaged(
            lambda: client.upload_part(**where, PartNumber=number, Body=io.BytesIO(part))
        )
        return str(answer["ETag"])

    async def _undamaged(self, send: Any) -> Any:
        """What `send` returns, once the server finds that it has what was signed."""
        for left in reversed(range(DIGEST_TRIES)):
            try:
                with self._bucket.translated(self._key):
                    return await send()
            except DigestMismatch:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _compare(self) -> None:
        size, sha256 = self._announced
        if size is not None and self._size != size:
            raise DigestMismatch(f"{self._key} has {self._size} bytes, {size} were announced")
        if sha256 is not None and self._digest.hexdigest() != sha256:
            found = self._digest.hexdigest()
            raise DigestMismatch(f"{self._key} has SHA-256 {found}, {sha256} was announced")

    async def _join(self, client: Any, where: dict[str, str], tags: list[str]) -> None:
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        try:
            await client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except ClientError as error:
            if code_of(error) == "NoSuchUpload" and await self._is_there(client):
                return  # it was joined when the answer to an earlier try got lost
            with self._bucket.translated():
                raise
        except BROKEN:
            with self._bucket.translated():
                raise

    async def _is_there(self, client: Any) -> bool:
        with suppress(FileNotFoundError), self._bucket.translated(self._key):
            found = await client.head_object(Bucket=self._bucket.name, Key=self._path)
            digest = found["Metadata"].get(SHA256)
            return found["ContentLength"] == self._size and digest in {None, self._digest.hexdigest()}
        return False

    async def _abort(self, client: Any, where: dict[str, str]) -> None:
        with suppress(StoreError, FileNotFoundError), self._bucket.translated():
            await client.abort_multipart_upload(**where)


async def _below(limit: int, tasks: list[asyncio.Task[str]]) -> None:
    """Wait until fewer than `limit` are under way. Raises what one of them failed with."""
    while len(pending := [task for task in tasks if not task.done()]) >= limit:
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
