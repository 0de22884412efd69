"""The suite of stores on a real S3 server, and what only such a store does."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from ceph_server import CephServer
from storage_suite import StoreSuite, collect, fill, keys, pieces

from visionmesh.storage import (
    BadKey,
    BucketMissing,
    DigestMismatch,
    ObjectChanged,
    S3Settings,
    StoreRefused,
    StoreUnavailable,
    open_store,
)
from visionmesh.storage import _s3_upload as upload
from visionmesh.storage import s3 as s3_module
from visionmesh.storage.s3 import S3Store

MIB = 1024 * 1024
PART = upload.PART_BYTES
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def bucket(ceph: CephServer) -> str:
    return ceph.new_bucket()


@pytest_asyncio.fixture
async def store(ceph: CephServer, bucket: str) -> AsyncIterator[S3Store]:
    made = S3Store(bucket, f"test {next(numbers)}/ü", ceph.settings)
    yield made
    await made.close()


class TestCeph(StoreSuite):
    pass


def noise(size: int) -> bytes:
    return hashlib.shake_256(str(size).encode()).digest(size)


async def uploads(store: S3Store) -> list[str]:
    """What is under way in the bucket, or was left behind."""
    client = await store._bucket.client()
    found = await client.list_multipart_uploads(Bucket=store._bucket.name)
    return [entry["Key"] for entry in found.get("Uploads", ())]


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART + 5])
async def test_large_objects_go_in_parts_and_come_in_ranges(store: S3Store, size: int) -> None:
    data = noise(size)
    digest = hashlib.sha256(data).hexdigest()
    thirds = (data[: size // 3], data[size // 3 : size // 2], data[size // 2 :])
    put = await store.put("a/large", pieces(*thirds), size_bytes=size, sha256=digest)
    assert (put.size_bytes, put.sha256) == (size, digest)
    assert await store.stat("a/large") == put
    chunks = [chunk async for chunk in store.get("a/large")]
    assert {len(chunk) for chunk in chunks[:-1]} == {256 * 1024}
    assert b"".join(chunks) == data
    for offset in (1, PART, size - 1, size, size + 1):
        assert await collect(store.get("a/large", offset)) == data[offset:]
    assert await uploads(store) == []


async def test_an_unannounced_object_in_parts_has_no_noted_digest(store: S3Store) -> None:
    data = noise(PART + 1)
    put = await store.put("large", pieces(data))
    found = await store.stat("large")
    assert found is not None
    assert (put.sha256, found.sha256) == (hashlib.sha256(data).hexdigest(), None)
    assert await collect(store.get("large")) == data


@pytest.mark.parametrize("announced", [{"size_bytes": 2 * PART}, {"sha256": "0" * 64}])
async def test_parts_that_are_not_as_announced_are_never_joined(
    store: S3Store, announced: dict[str, Any]
) -> None:
    old = await store.put("a", pieces(b"old"))
    with pytest.raises(DigestMismatch):
        await store.put("a", pieces(noise(2 * PART + 1)), **announced)
    assert await store.stat("a") == old
    assert await uploads(store) == []


async def test_a_cancelled_upload_leaves_no_parts(store: S3Store) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield noise(2 * PART)
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(store.put("a", endless()))
    async with asyncio.timeout(30):
        await begun.wait()
    assert len(await uploads(store)) == 1
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await uploads(store) == []
    assert await keys(store) == []


async def test_deleting_a_folder_clears_away_what_broken_uploads_left(store: S3Store) -> None:
    client = await store._bucket.client()
    for key in ("a/x", "b/x"):
        await client.create_multipart_upload(Bucket=store._bucket.name, Key=store._path(key))
    await store.delete_prefix("a/")
    assert await uploads(store) == [store._path("b/x")]
    await store.delete_prefix("b/")


async def test_lists_longer_than_a_page(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "BATCH", 3)
    names = [f"many/{number:02}" for number in range(10)]
    await fill(store, [*names, "other"])
    assert await keys(store, "many/") == names
    await store.delete_prefix("many/")
    assert await keys(store) == ["other"]


async def test_what_is_too_large_to_copy_at_once_is_copied_in_parts(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "COPY_BYTES", 5 * 5 * MIB)
    data = noise(26 * MIB)
    put = await store.put("a", pieces(data), sha256=hashlib.sha256(data).hexdigest())
    await store.copy("a", "b/c")
    copied = await store.stat("b/c")
    assert copied is not None
    assert (copied.size_bytes, copied.sha256) == (put.size_bytes, put.sha256)
    assert await collect(store.get("b/c")) == data


async def test_two_objects_are_never_mixed(store: S3Store) -> None:
    size = 16 * MIB
    await store.put("a", pieces(b"o" * size))
    reading = store.get("a")
    first = await anext(reading)
    await store.put("a", pieces(b"n" * size))
    with pytest.raises(ObjectChanged, match="Read it anew"):
        await collect(reading)
    assert set(first) == {ord("o")}


async def test_an_object_that_is_not_what_was_stored_is_noticed(store: S3Store) -> None:
    client = await store._bucket.client()
    await client.put_object(
        Bucket=store._bucket.name, Key=store._path("a"), Body=b"flipped", Metadata={"sha256": "0" * 64}
    )
    with pytest.raises(DigestMismatch, match="was stored with 0000"):
        await collect(store.get("a"))


async def test_a_whole_bucket_is_a_store(ceph: CephServer) -> None:
    store = open_store(f"s3://{ceph.new_bucket()}", s3=ceph.settings)
    try:
        await store.check()
        await store.put("a/b", pieces(b"x"))
        assert store.key_of(store.uri("a/b")) == "a/b"
        assert await keys(store) == ["a/b"]
    finally:
        await store.close()


async def test_a_store_that_was_closed_connects_anew(store: S3Store) -> None:
    await store.put("a", pieces(b"x"))
    await store.close()
    assert await collect(store.get("a")) == b"x"


async def test_with_its_prefix_a_key_may_be_too_long(ceph: CephServer, bucket: str) -> None:
    store = S3Store(bucket, "p" * 100, ceph.settings)
    with pytest.raises(BadKey, match="with the store's prefix"):
        await store.put("k" * 1000, pieces(b"x"))


async def refused(bucket: str, settings: S3Settings) -> Exception:
    """What every operation of such a store ends with."""
    store = S3Store(bucket, "", settings)
    try:
        with pytest.raises(Exception) as refusal:  # noqa: PT011 - the callers say which
            await store.check()
        for work in (
            collect(store.get("a")),
            store.put("a", pieces(b"x")),
            store.put("a", pieces(b"x" * (PART + 1))),
            store.copy("a", "b"),
            store.delete("a"),
            store.delete_prefix("a/"),
            keys(store),
        ):
            with pytest.raises((type(refusal.value), FileNotFoundError)):
                await work
        return refusal.value
    finally:
        await store.close()


async def test_wrong_credentials_say_what_to_set(ceph: CephServer, bucket: str) -> None:
    known = ceph.settings
    for wrong in (
        S3Settings(known.endpoint, access_key=known.access_key, secret_key="wrong"),
        S3Settings(known.endpoint, access_key="NOBODY", secret_key=known.secret_key),
    ):
        error = await refused(bucket, wrong)
        assert isinstance(error, StoreRefused)
        assert "STORAGE_ACCESS_KEY" in str(error)
        assert known.secret_key not in str(error) + repr(known)
        assert error.__cause__ is not None
        print(f"wrong credentials: {error}")


async def test_a_bucket_of_somebody_else_is_refused(ceph: CephServer, bucket: str) -> None:
    stranger = ceph.new_user()
    error = await refused(bucket, stranger)
    assert isinstance(error, StoreRefused)
    assert "rights" in str(error)


async def test_no_credentials_at_all(
    ceph: CephServer, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    error = await refused(bucket, S3Settings(ceph.endpoint))
    assert isinstance(error, StoreRefused)
    assert "Set STORAGE_ACCESS_KEY" in str(error)


async def test_a_missing_bucket_is_named(ceph: CephServer) -> None:
    error = await refused("no-such-bucket", ceph.settings)
    assert isinstance(error, BucketMissing)
    assert "s3://no-such-bucket" in str(error)


async def test_a_server_that_is_not_there(ceph: CephServer, bucket: str) -> None:
    store = S3Store(bucket, "", S3Settings("http://127.0.0.1:9", access_key="a", secret_key="b"))
    try:
        with pytest.raises(StoreUnavailable, match="STORAGE_ENDPOINT"):
            await store.check()
    finally:
        await store.close()
