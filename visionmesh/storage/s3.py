"""Objects in a bucket of S3, or of a server that speaks its protocol: MinIO, R2, Ceph.

An object's SHA-256 is kept among its metadata, unless it came in parts and unannounced. Keys of the
store lie below a prefix of the bucket.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote, unquote

from visionmesh.parallel import each
from visionmesh.storage._s3_client import Bucket
from visionmesh.storage._s3_download import Download
from visionmesh.storage._s3_upload import SHA256, Upload
from visionmesh.storage.interface import (
    MAX_KEY_BYTES,
    BadKey,
    ObjectStore,
    StoredObject,
    StoreUnavailable,
    check_folder_prefix,
    check_key,
    check_offset,
    check_prefix,
    is_key,
)
from visionmesh.storage.s3_settings import S3Settings

COPY_BYTES = 5 * 2**30
"""Largest object that S3 copies at once; larger ones are copied in parts of a fifth of it."""

_COPIES_AT_A_TIME = 4
BATCH = 1000
"""Objects that are listed, and deleted, at once."""


class S3Store(ObjectStore):
    """A prefix of a bucket. Close it; make it anew, or use it again, in another event loop."""

    def __init__(self, bucket: str, prefix: str = "", settings: S3Settings | None = None) -> None:
        """`prefix` without slashes at its ends; empty for the whole bucket. Raises BadKey."""
        self._prefix = check_key(prefix) + "/" if prefix else ""
        self._bucket = Bucket(bucket, settings or S3Settings())
        self._base = f"s3://{bucket}/{quote(self._prefix)}"

    @property
    def location(self) -> tuple[str, S3Settings]:
        """URL, without a slash at its end, and server."""
        return self._base.rstrip("/"), self._bucket.settings

    async def check(self) -> None:
        """Look into the bucket."""
        client = await self._bucket.client()
        with self._bucket.translated():
            await client.list_objects_v2(Bucket=self._bucket.name, Prefix=self._prefix, MaxKeys=1)

    async def close(self) -> None:
        """Close connections."""
        await self._bucket.close()

    async def put(
        self,
        key: str,
        chunks: AsyncIterable[bytes],
        *,
        size_bytes: int | None = None,
        sha256: str | None = None,
    ) -> StoredObject:
        """Send, in parts if it is large; what is not as announced is thrown away."""
        return await Upload(self._bucket, self._path(key), key, size_bytes, sha256).run(chunks)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Ranges of the object, read ahead."""
        path = self._path(key)
        check_offset(offset)
        async with aclosing(Download(self._bucket, path, key).chunks(offset)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stat(self, key: str) -> StoredObject | None:
        """Size, and the digest that was noted."""
        try:
            found = await self._head(key)
        except FileNotFoundError:
            return None
        return StoredObject(key, found["ContentLength"], found["Metadata"].get(SHA256))

    async def _head(self, key: str) -> Any:
        client, path = await self._bucket.client(), self._path(key)
        with self._bucket.translated(key):
            return await client.head_object(Bucket=self._bucket.name, Key=path)

    async def entries(self, prefix: str) -> AsyncIterator[StoredObject]:
        """List, page by page; the digests are not asked for."""
        check_prefix(prefix)
        async for page in self._pages("list_objects_v2", prefix):
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._prefix)
                if is_key(key):
                    yield StoredObject(key, found["Size"], None)

    async def _pages(self, operation: str, prefix: str) -> AsyncIterator[Any]:
        client = await self._bucket.client()
        pages = client.get_paginator(operation).paginate(
            Bucket=self._bucket.name, Prefix=self._prefix + prefix, PaginationConfig={"PageSize": BATCH}
        )
        with self._bucket.translated():
            async for page in pages:
                yield page

    async def delete(self, key: str) -> None:
        """Remove one."""
        client, path = await self._bucket.client(), self._path(key)
        with self._bucket.translated(key):
            await client.delete_object(Bucket=self._bucket.name, Key=path)

    async def delete_prefix(self, prefix: str) -> None:
        """Remove a thousand at a time, and what uploads that broke off have left."""
        below = check_folder_prefix(prefix) + "/"
        client = await self._bucket.client()
        async for page in self._pages("list_objects_v2", below):
            found = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
            for start in range(0, len(found), BATCH):
                await self._delete_batch(client, found[start : start + BATCH])
        async for page in self._pages("list_multipart_uploads", below):
            for upload in page.get("Uploads", ()):
                where = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                with self._bucket.translated():
                    await client.abort_multipart_upload(Bucket=self._bucket.name, **where)

    async def _delete_batch(self, client: Any, found: list[dict[str, str]]) -> None:
        with self._bucket.translated():
            answer = await client.delete_objects(
                Bucket=self._bucket.name, Delete={"Objects": found, "Quiet": True}
            )
        for failed in answer.get("Errors", ()):
            why = f"{failed.get('Code')}: {failed.get('Message')}"
            raise StoreUnavailable(f"{failed.get('Key')!r} in {self._bucket.place} stays ({why}). Try again.")

    async def copy(self, source: str, target: str) -> None:
        """Within the server."""
        found = await self._head(source)
        path = self._path(target)
        if source == target:
            return
        client = await self._bucket.client()
        origin = {"Bucket": self._bucket.name, "Key": self._path(source)}
        where = {"Bucket": self._bucket.name, "Key": path}
        if found["ContentLength"] > COPY_BYTES:
            await self._copy_parts(client, origin, where, found)
        else:
            with self._bucket.translated(source):
                await client.copy_object(**where, CopySource=origin)

    async def _copy_parts(
        self, client: Any, origin: dict[str, str], where: dict[str, str], found: Any
    ) -> None:
        with self._bucket.translated(origin["Key"]):
            begun = await client.create_multipart_upload(**where, Metadata=found["Metadata"])
            where = {**where, "UploadId": begun["UploadId"]}
            size, step = found["ContentLength"], COPY_BYTES // 5

            async def part(start: int) -> str:
                answer = await client.upload_part_copy(
                    **where,
                    PartNumber=start // step + 1,
                    CopySource=origin,
                    CopySourceIfMatch=found["ETag"],
                    CopySourceRange=f"bytes={start}-{min(start + step, size) - 1}",
                )
                return str(answer["CopyPartResult"]["ETag"])

            try:
                tags = await each(range(0, size, step), part, _COPIES_AT_A_TIME)
                parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
                await client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
            except BaseException:
                await asyncio.shield(client.abort_multipart_upload(**where))
                raise

    def uri(self, key: str) -> str:
        """s3://BUCKET/PREFIX/KEY."""
        self._path(key)
        return self._base + quote(key)

    def key_of(self, uri: str) -> str | None:
        """What follows the prefix."""
        return check_key(unquote(uri.removeprefix(self._base))) if uri.startswith(self._base) else None

    def _path(self, key: str) -> str:
        path = self._prefix + check_key(key)
        if len(path.encode()) > MAX_KEY_BYTES:
            raise BadKey(f"with the store's prefix, {key!r} has more than {MAX_KEY_BYTES} bytes")
        return path
