"""Reads an object from a bucket: several ranges at a time, in order, going on where a connection broke."""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Any

from botocore.exceptions import ClientError

from visionmesh.storage._s3_client import BROKEN, Bucket, code_of
from visionmesh.storage._s3_upload import SHA256
from visionmesh.storage.interface import CHUNK_BYTES, DigestMismatch, ObjectChanged, StoreUnavailable

RANGE_BYTES = 8 * CHUNK_BYTES
RANGES_AT_A_TIME = 4
"""So one download holds 8 MiB at most."""

BREAKS = 8
"""Times in a row that a connection may break without a byte."""

_LONGEST_WAIT_SECONDS = 5.0


class Download:
    """One object on its way out of a bucket."""

    def __init__(self, bucket: Bucket, path: str, key: str) -> None:
        self._bucket, self._path, self._key = bucket, path, key
        self._etag = ""

    async def chunks(self, offset: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `offset` on, in pieces of CHUNK_BYTES but for the last.

        Raises FileNotFoundError, StoreError, or DigestMismatch after the last piece.
        """
        answer = await self._ask(offset, offset + RANGE_BYTES)
        if answer is None:
            return
        size, self._etag = _whole_size(answer, self._bucket), answer["ETag"]
        expected = answer["Metadata"].get(SHA256) if not offset else None
        digest = hashlib.sha256()
        async for chunk in self._in_order(answer["Body"], offset, size):
            digest.update(chunk)
            yield chunk
        if expected and digest.hexdigest() != expected:
            text = f"{self._key!r} in {self._bucket.place} has SHA-256 {digest.hexdigest()[:12]}…"
            raise DigestMismatch(f"{text}, it was stored with {expected[:12]}…")

    async def _in_order(self, body: Any, offset: int, size: int) -> AsyncGenerator[bytes, None]:
        starts = iter(range(offset, size, RANGE_BYTES))
        ahead: deque[_Range] = deque()
        try:
            while True:
                while len(ahead) < RANGES_AT_A_TIME and (start := next(starts, None)) is not None:
                    end = min(start + RANGE_BYTES, size)
                    ahead.append(_Range(self, start, end, body if start == offset else None))
                if not ahead:
                    return
                while chunk := await ahead[0].next():
                    yield chunk
                ahead.popleft()
        finally:
            await asyncio.gather(*(part.close() for part in ahead))

    async def body(self, start: int, end: int) -> Any:
        """The body of a request for these bytes of the object that was begun with."""
        answer = await self._ask(start, end, IfMatch=self._etag)
        if answer is None:
            raise ObjectChanged(f"{self._key!r} has become shorter while it was read. Read it anew.")
        return answer["Body"]

    async def _ask(self, start: int, end: int, **conditions: str) -> Any:
        """The answer; None if the object ends before `start`."""
        client = await self._bucket.client()
        with self._bucket.translated(self._key):
            try:
                return await client.get_object(
                    Bucket=self._bucket.name, Key=self._path, Range=f"bytes={start}-{end - 1}", **conditions
                )
            except ClientError as error:
                if code_of(error) in {"InvalidRange", "416"}:
                    return None
                raise

    def unavailable(self, why: BaseException) -> StoreUnavailable:
        """Connections break again and again."""
        text = f"{self._key!r} cannot be read from {self._bucket.place}: connections break"
        return StoreUnavailable(f"{text} ({why or type(why).__name__}). Try again later.")


class _Range:
    """A part of an object, collected while those before it are read."""

    def __init__(self, download: Download, start: int, end: int, body: Any) -> None:
        self._download, self._start, self._end, self._body = download, start, end, body
        self._held = bytearray()
        """The beginning of the next piece; `_start` is behind it."""
        self._chunks: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._task = asyncio.create_task(self._collect())

    async def next(self) -> bytes:
        """The next piece; empty at the end. Raises StoreError or FileNotFoundError."""
        found = await self._chunks.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._body is not None:
            self._body.close()

    async def _collect(self) -> None:
        try:
            await self._read_all()
            self._chunks.put_nowait(b"")
        except Exception as error:  # whoever reads gets it
            self._chunks.put_nowait(error)

    async def _read_all(self) -> None:
        breaks = 0
        while self._start < self._end:
            before = self._start
            try:
                await self._read_once()
            except BROKEN as error:
                breaks = 1 if self._start > before else breaks + 1
                if breaks > BREAKS:
                    raise self._download.unavailable(error) from error
                longest = min(0.05 * 2**breaks, _LONGEST_WAIT_SECONDS)
                await asyncio.sleep(random.uniform(longest / 10, longest))  # noqa: S311 - no secret

    async def _read_once(self) -> None:
        """Read on until the end, or until the connection breaks; what came before that is kept."""
        body, self._body = self._body, None
        with closing(body or await self._download.body(self._start, self._end)) as opened:
            while self._start < self._end:
                piece = await opened.read(min(CHUNK_BYTES - len(self._held), self._end - self._start))
                if not piece:
                    raise ConnectionError("the answer was cut short")
                self._held += piece
                self._start += len(piece)
                if len(self._held) == CHUNK_BYTES or self._start == self._end:
                    self._chunks.put_nowait(bytes(self._held))
                    self._held.clear()


def _whole_size(answer: Any, bucket: Bucket) -> int:
    """Size of the object of which `answer` is a range."""
    told = answer.get("ContentRange", "")
    if told:
        return int(told.rpartition("/")[2])
    if answer["ContentLength"] == 0:
        return 0
    fix = "Use a server that does (S3, MinIO, R2, Ceph)."
    raise StoreUnavailable(f"{bucket.place} does not send ranges of objects. {fix}")
