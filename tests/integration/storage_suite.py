"""One suite for every object store: what holds for the fake holds for the real ones.

Whoever runs it subclasses StoreSuite beside a fixture `store`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionmesh.storage import BadKey, DigestMismatch, ObjectChanged, ObjectStore, StoredObject

CHUNK = 256 * 1024
BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../../b",
    "a/..",
    ".",
    "a/./b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\x7f",
    "\ud800",
    "k" * 1025,
    "ä" * 513,
]


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def broken(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    raise ConnectionError("the sender has gone")


async def collect(chunks: AsyncIterable[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key async for found in store.entries(prefix)]


async def fill(store: ObjectStore, names: Iterable[str]) -> None:
    for name in names:
        await store.put(name, pieces(name.encode()))


KEYS = st.lists(
    st.text(
        st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=40
    ),
    min_size=1,
    max_size=4,
).filter(lambda parts: not {".", ".."} & set(parts) and parts[0] not in {".digests", ".incoming"})
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


class StoreSuite:
    """What every store does."""

    async def test_what_was_put_is_got_with_size_and_digest(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 3000
        digest = hashlib.sha256(data).hexdigest()
        put = await store.put(
            "a/b.bin", pieces(data[:100], b"", data[100:]), size_bytes=len(data), sha256=digest
        )
        assert (put.key, put.size_bytes, put.sha256) == ("a/b.bin", len(data), digest)
        assert await store.stat("a/b.bin") == put
        assert await collect(store.get("a/b.bin")) == data

    async def test_bytes_come_in_chunks_that_fit_a_message(self, store: ObjectStore) -> None:
        await store.put("large", pieces(b"x" * (2 * CHUNK + 1)))
        assert [len(chunk) async for chunk in store.get("large")] == [CHUNK, CHUNK, 1]

    async def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        await store.put("empty", pieces())
        found = await store.stat("empty")
        assert found is not None
        assert found.size_bytes == 0
        assert await collect(store.get("empty")) == b""

    @pytest.mark.parametrize(("offset", "rest"), [(0, b"0123456789"), (4, b"456789"), (10, b""), (11, b"")])
    async def test_get_begins_at_the_offset(self, store: ObjectStore, offset: int, rest: bytes) -> None:
        await store.put("digits", pieces(b"0123456789"))
        assert await collect(store.get("digits", offset)) == rest

    async def test_a_negative_offset_is_refused(self, store: ObjectStore) -> None:
        await store.put("digits", pieces(b"0123456789"))
        with pytest.raises(ValueError, match="at least 0"):
            await collect(store.get("digits", -1))

    async def test_put_replaces(self, store: ObjectStore) -> None:
        await store.put("a", pieces(b"old"))
        new = await store.put("a", pieces(b"newer"))
        assert await store.stat("a") == new
        assert await collect(store.get("a")) == b"newer"

    async def test_a_reader_never_gets_two_objects_mixed(self, store: ObjectStore) -> None:
        await store.put("a", pieces(b"o" * CHUNK * 2))
        reading = store.get("a")
        first = await anext(reading)
        await store.put("a", pieces(b"n" * CHUNK * 2))
        with suppress(ObjectChanged):  # a store on the network may not have what it was any more
            assert first + await collect(reading) == b"o" * CHUNK * 2

    @pytest.mark.parametrize("announced", [{"size_bytes": 4}, {"size_bytes": 6}, {"sha256": "0" * 64}])
    async def test_other_bytes_than_announced_leave_nothing_behind(
        self, store: ObjectStore, announced: dict[str, int | str]
    ) -> None:
        with pytest.raises(DigestMismatch, match=r"bytes|SHA-256"):
            await store.put("a/b", pieces(b"hello"), **announced)  # type: ignore[arg-type]
        assert await store.stat("a/b") is None
        assert await keys(store) == []

    async def test_other_bytes_than_announced_leave_the_old_object(self, store: ObjectStore) -> None:
        old = await store.put("a", pieces(b"old"))
        with pytest.raises(DigestMismatch):
            await store.put("a", pieces(b"new"), size_bytes=99)
        assert await store.stat("a") == old
        assert await collect(store.get("a")) == b"old"

    async def test_a_sender_that_breaks_off_leaves_nothing_behind(self, store: ObjectStore) -> None:
        with pytest.raises(ConnectionError):
            await store.put("a", broken(b"half"))
        assert await keys(store) == []

    async def test_a_cancelled_put_leaves_nothing_behind(self, store: ObjectStore) -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b"half"
            begun.set()
            await asyncio.Event().wait()

        putting = asyncio.create_task(store.put("a", endless()))
        async with asyncio.timeout(5):
            await begun.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await keys(store) == []

    async def test_absent_objects(self, store: ObjectStore) -> None:
        await store.put("a/b", pieces(b"x"))
        for absent in ("a", "a/c", "a/b/c", "z"):
            assert await store.stat(absent) is None
            with pytest.raises(FileNotFoundError):
                await collect(store.get(absent))
            with pytest.raises(FileNotFoundError):
                await store.copy(absent, "target")
            await store.delete(absent)
        assert await keys(store) == ["a/b"]

    async def test_entries_are_those_with_the_prefix_in_order(self, store: ObjectStore) -> None:
        await fill(store, ["b", "a/2", "a/10", "a/x/1", "ab", "a.txt"])
        assert await keys(store) == ["a.txt", "a/10", "a/2", "a/x/1", "ab", "b"]
        assert await keys(store, "a/") == ["a/10", "a/2", "a/x/1"]
        assert await keys(store, "a") == ["a.txt", "a/10", "a/2", "a/x/1", "ab"]
        assert await keys(store, "a/x/") == ["a/x/1"]
        assert await keys(store, "none/") == []
        assert await keys(store, "b/") == []
        (found,) = [found async for found in store.entries("b")]
        known = await store.stat("b")
        assert known is not None
        assert found in (known, StoredObject(known.key, known.size_bytes, None))

    async def test_delete_removes_one_object_and_may_be_repeated(self, store: ObjectStore) -> None:
        await fill(store, ["a/1", "a/2"])
        await store.delete("a/1")
        await store.delete("a/1")
        assert await keys(store) == ["a/2"]

    async def test_a_folder_that_was_emptied_leaves_its_name_free(self, store: ObjectStore) -> None:
        await fill(store, ["a/b/c", "d/e/f"])
        await store.delete("a/b/c")
        await store.delete_prefix("d/e/")
        await fill(store, ["a", "d/e"])
        assert await keys(store) == ["a", "d/e"]
        found = await store.stat("d/e")
        assert found is not None
        assert found.sha256 == hashlib.sha256(b"d/e").hexdigest()

    async def test_delete_prefix_removes_what_is_below_and_nothing_beside(self, store: ObjectStore) -> None:
        await fill(store, ["a/1", "a/x/2", "ab", "a.b/c"])
        await store.delete_prefix("a/")
        await store.delete_prefix("a/")
        assert await keys(store) == ["a.b/c", "ab"]

    @pytest.mark.parametrize("prefix", ["", "a", "/", "//", "../", "a/../b/"])
    async def test_delete_prefix_refuses_what_is_no_folder(self, store: ObjectStore, prefix: str) -> None:
        await fill(store, ["a/1"])
        with pytest.raises(BadKey):
            await store.delete_prefix(prefix)
        assert await keys(store) == ["a/1"]

    async def test_a_copy_outlives_its_source(self, store: ObjectStore) -> None:
        source = await store.put("attempts/1/best.pt", pieces(b"weights"))
        await store.copy("attempts/1/best.pt", "checkpoints/1/best.pt")
        await store.copy("attempts/1/best.pt", "checkpoints/1/best.pt")
        await store.put("attempts/1/best.pt", pieces(b"other"))
        await store.delete_prefix("attempts/")
        copied = await store.stat("checkpoints/1/best.pt")
        assert copied is not None
        assert (copied.size_bytes, copied.sha256) == (source.size_bytes, source.sha256)
        assert await collect(store.get("checkpoints/1/best.pt")) == b"weights"

    async def test_a_copy_onto_itself_changes_nothing(self, store: ObjectStore) -> None:
        put = await store.put("a", pieces(b"same"))
        await store.copy("a", "a")
        assert await store.stat("a") == put
        assert await keys(store) == ["a"]

    async def test_many_puts_at_once_leave_one_whole_object(self, store: ObjectStore) -> None:
        contents = [bytes([number]) * 1000 for number in range(8)]
        await asyncio.gather(*(store.put("a/same", pieces(data[:1], data[1:])) for data in contents))
        data = await collect(store.get("a/same"))
        found = await store.stat("a/same")
        assert data in contents
        assert found is not None
        assert found.sha256 in {None, hashlib.sha256(data).hexdigest()}

    async def test_puts_and_deletes_at_once_do_not_disturb_each_other(self, store: ObjectStore) -> None:
        async def come_and_go(name: str) -> None:
            for _ in range(5):
                await store.put(name, pieces(b"x"))
                await store.delete(name)

        await asyncio.gather(*(come_and_go(f"a/b/{number}") for number in range(8)))
        assert await keys(store) == []

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_bad_keys_are_refused_everywhere(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(BadKey):
            await store.put(key, pieces(b"x"))
        with pytest.raises(BadKey):
            await collect(store.get(key))
        with pytest.raises(BadKey):
            await store.stat(key)
        with pytest.raises(BadKey):
            await store.delete(key)
        with pytest.raises(BadKey):
            store.uri(key)
        await store.put("good", pieces(b"x"))
        with pytest.raises(BadKey):
            await store.copy("good", key)
        with pytest.raises(BadKey):
            await store.copy(key, "good")
        assert await keys(store) == ["good"]

    @pytest.mark.parametrize("prefix", ["../", "a//", "/a/", "a/../"])
    async def test_bad_prefixes_are_refused(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(BadKey):
            await keys(store, prefix)

    async def test_uris_of_other_stores_have_no_key(self, store: ObjectStore) -> None:
        for uri in ("s3://bucket/a", "file:///somewhere/else", "http://localhost/a", "", "a/b", "uploads/x"):
            assert store.key_of(uri) is None

    async def test_a_uri_that_climbs_out_is_refused(self, store: ObjectStore) -> None:
        base = store.uri("a").removesuffix("a")
        for tail in ("../a", "%2e%2e/a", "a/%2E%2E/%2E%2E/b", "a%00b", "a%5Cb", "", "a//b"):
            with pytest.raises(BadKey):
                store.key_of(base + tail)

    @given(KEYS.map("/".join), st.binary(max_size=64))
    @settings(max_examples=60, deadline=None, suppress_health_check=_SHARED)
    async def test_any_good_key_round_trips_through_store_and_uri(
        self, store: ObjectStore, key: str, data: bytes
    ) -> None:
        put = await store.put(key, pieces(data))
        assert await store.stat(key) == put
        assert await collect(store.get(key)) == data
        assert store.uri(key).isascii()
        assert store.key_of(store.uri(key)) == key
        assert await keys(store) == [key]
        await store.delete(key)
