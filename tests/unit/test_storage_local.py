"""What only a folder can do wrong: links, full disks, leftovers, notes of digests."""

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from visionmesh.storage import BadKey, LocalStore, StoreFull, _files, open_store


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(store: LocalStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.get(key)])


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


async def test_an_object_is_a_file_that_people_find(store: LocalStore) -> None:
    await store.put("checkpoints/x/best.pt", pieces(b"weights"))
    assert (store.root / "checkpoints/x/best.pt").read_bytes() == b"weights"
    assert store.uri("checkpoints/x/best.pt") == f"file://{store.root}/checkpoints/x/best.pt"


async def test_links_are_never_followed(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    store.root.mkdir()
    (store.root / "folder").symlink_to(outside)
    (store.root / "file").symlink_to(outside / "secret")
    for key in ("file", "folder/secret"):
        assert await store.stat(key) is None
        for attempt in (store.put(key, pieces(b"x")), read(store, key), store.copy(key, "mine")):
            with pytest.raises(BadKey, match="link"):
                await attempt
        with pytest.raises(BadKey, match="link"):
            await store.delete(key)
    for attempt in (store.put("folder/new/x", pieces(b"x")), store.delete_prefix("folder/")):
        with pytest.raises(BadKey, match="link"):
            await attempt
    assert [found.key async for found in store.entries("")] == []
    assert [found.key async for found in store.entries("folder/")] == []
    assert files_below(outside) == ["secret"]
    assert not (outside / "new").exists()


@pytest.mark.parametrize("key", [".digests/a", ".incoming/a", ".digests"])
async def test_the_stores_own_folders_are_no_keys(store: LocalStore, key: str) -> None:
    with pytest.raises(BadKey):
        await store.put(key, pieces(b"x"))
    with pytest.raises(BadKey):
        await store.delete_prefix(key + "/")
    with pytest.raises(BadKey):
        store.key_of((store.root / key).as_uri())


async def test_a_segment_that_no_file_system_takes_is_a_bad_key(store: LocalStore) -> None:
    with pytest.raises(BadKey, match="255"):
        await store.put("a/" + "x" * 256, pieces(b"x"))
    await store.put("a/" + "x" * 255, pieces(b"x"))


async def test_an_object_cannot_lie_below_another(store: LocalStore) -> None:
    await store.put("a", pieces(b"object"))
    with pytest.raises(BadKey, match="below"):
        await store.put("a/b", pieces(b"x"))
    await store.put("c/d", pieces(b"object"))
    with pytest.raises(BadKey, match="below"):
        await store.put("c", pieces(b"x"))
    assert [found.key async for found in store.entries("")] == ["a", "c/d"]
    assert await read(store, "a") == b"object"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_leaves_nothing_behind(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    await store.put("old", pieces(b"old"))
    before = files_below(store.root)
    real = _files.append

    def full(file: _files.File, chunk: bytes, digest: "hashlib._Hash") -> None:
        real(file, chunk[:1], digest)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_files, "append", full)
    for key in ("old", "new"):
        with pytest.raises(StoreFull, match=key):
            await store.put(key, pieces(b"bytes"))
    assert files_below(store.root) == before
    assert await read(store, "old") == b"old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux: /dev/full refuses every byte")
def test_what_a_full_disk_says_is_store_full() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="space") as raised:
        _files.append(full, b"x", hashlib.sha256())  # type: ignore[arg-type]
    assert isinstance(_files.translated(raised.value, "a"), StoreFull)


async def test_an_error_that_is_not_about_room_stays_what_it_is(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(_files, "sync", failing)
    with pytest.raises(OSError, match="broken disk"):
        await store.put("a", pieces(b"x"))
    assert files_below(store.root) == []


async def test_bytes_are_synced_before_the_name_appears(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    sync, replace = _files.sync, Path.replace
    monkeypatch.setattr(_files, "sync", lambda file: (seen.append("sync"), sync(file)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append("rename"), replace(self, to))[1])
    await store.put("a", pieces(b"x"))
    assert seen == ["sync", "rename"]


async def test_disks_are_not_waited_for_on_the_event_loop(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    real = _files.append

    def noting(file: _files.File, chunk: bytes, digest: "hashlib._Hash") -> None:
        threads.add(threading.get_ident())
        real(file, chunk, digest)

    monkeypatch.setattr(_files, "append", noting)
    await store.put("a", pieces(b"x", b"y"))
    assert threads
    assert threading.get_ident() not in threads


async def test_digests_outlive_the_process(store: LocalStore) -> None:
    put = await store.put("a/b", pieces(b"x"))
    assert await LocalStore(store.root).stat("a/b") == put


@pytest.mark.parametrize("change", ["replaced", "edited", "torn note", "no note"])
async def test_a_digest_that_may_be_wrong_is_not_told(store: LocalStore, change: str) -> None:
    await store.put("a", pieces(b"before"))
    path, note = store.root / "a", store.root / ".digests" / "a"
    if change == "replaced":
        (store.root / "other").write_bytes(b"after!")
        (store.root / "other").replace(path)
    elif change == "edited":
        path.write_bytes(b"after, and longer")
    elif change == "torn note":
        note.write_text(note.read_text()[:70])
    else:
        note.unlink()
    found = await store.stat("a")
    assert found is not None
    assert found.sha256 is None
    await store.copy("a", "b")
    copied = await store.stat("b")
    assert copied is not None
    assert copied.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_files_that_people_put_there_are_objects_without_digest(store: LocalStore) -> None:
    (store.root / "images").mkdir(parents=True)
    (store.root / "images" / "a.jpg").write_bytes(b"jpeg")
    (store.root / "images" / "bad\\name.jpg").write_bytes(b"jpeg")
    os.close(os.open(bytes(store.root / "images") + b"/\xff.jpg", os.O_CREAT | os.O_WRONLY))
    found = [entry async for entry in store.entries("images/")]
    assert [(entry.key, entry.sha256) for entry in found] == [("images/a.jpg", None)]


async def test_a_copy_works_where_there_are_no_hard_links(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    await store.put("a", pieces(b"bytes"))
    monkeypatch.setattr(os, "link", refuse)
    await store.copy("a", "b")
    assert await read(store, "b") == b"bytes"
    assert files_below(store.root / ".incoming") == []


async def test_nothing_is_left_in_the_folder_for_what_is_coming(store: LocalStore) -> None:
    await store.put("a", pieces(b"x"))
    await store.copy("a", "b")
    with pytest.raises(BadKey):
        await store.copy("a", "b/c")
    await store.delete("a")
    await store.delete_prefix("b/")
    assert files_below(store.root / ".incoming") == []
    assert files_below(store.root / ".digests") == ["b"]


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("{0}", "{0}"),
        ("file://{0}", "{0}"),
        ("file://localhost{0}", "{0}"),
        ("file://{0}/with%20space", "{0}/with space"),
        ("{0}/100%25 #1?", "{0}/100%25 #1?"),
    ],
)
def test_open_store_takes_paths_and_file_urls(tmp_path: Path, url: str, folder: str) -> None:
    opened = open_store(url.format(tmp_path))
    assert isinstance(opened, LocalStore)
    assert str(opened.root) == folder.format(tmp_path)


def test_open_store_takes_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened = open_store("data/artifacts")
    assert isinstance(opened, LocalStore)
    assert opened.root == tmp_path / "data" / "artifacts"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://", "without a plain bucket name"),
        ("s3:///prefix", "without a plain bucket name"),
        ("s3://key:secret@bucket/prefix", "STORAGE_ACCESS_KEY"),
        ("s3://bucket/a//b", "empty segment"),
        ("s3://bucket/a?x=1", "%3F"),
        ("gs://bucket", "no store for gs"),
        ("", "empty"),
        ("  ", "empty"),
        ("file://data/artifacts", "three slashes"),
        ("file://", "three slashes"),
        ("file:///data?x=1", "%3F"),
    ],
)
def test_open_store_says_what_it_takes(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_store(url)


async def test_a_reader_that_leaves_while_the_file_is_opened_leaves_it_closed(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("a", pieces(b"x"))
    opened, go_on, opening = [], threading.Event(), asyncio.Event()
    real, loop = store._open, asyncio.get_running_loop()

    def slowly(path: Path) -> Any:
        loop.call_soon_threadsafe(opening.set)
        go_on.wait(30)
        opened.append(real(path))
        return opened[0]

    monkeypatch.setattr(store, "_open", slowly)
    reading = asyncio.ensure_future(anext(store.get("a")))
    await opening.wait()
    reading.cancel()
    go_on.set()
    await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(30):
        while not opened or not opened[0].closed:  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.01)
