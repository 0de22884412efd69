"""A store on a server that fails, over links that break: what passes is borne, and nothing false is taken."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
import pytest_asyncio
from ceph_server import CephServer
from faulty_s3 import Fault, FaultyS3, faulty
from storage_suite import collect, keys, pieces

from visionmesh.storage import DigestMismatch, StoredObject, StoreUnavailable
from visionmesh.storage import _s3_client as s3_client
from visionmesh.storage import _s3_download as s3_download
from visionmesh.storage._s3_upload import PART_BYTES
from visionmesh.storage.s3 import S3Store

MIB = 1024 * 1024
DATA = hashlib.shake_256(b"object").digest(5 * MIB + 3)
LARGE = hashlib.shake_256(b"object").digest(2 * PART_BYTES + 3)
DIGEST = hashlib.sha256(LARGE).hexdigest()
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def bucket(ceph: CephServer) -> str:
    return ceph.new_bucket()


@pytest_asyncio.fixture
async def proxy(ceph: CephServer) -> AsyncIterator[FaultyS3]:
    async with faulty(ceph.port) as made:
        yield made


@pytest_asyncio.fixture
async def store(ceph: CephServer, bucket: str, proxy: FaultyS3) -> AsyncIterator[S3Store]:
    """A store behind the proxy, whose patience is short."""
    settings = replace(ceph.settings, endpoint=proxy.endpoint, timeout_seconds=2.0)
    made = S3Store(bucket, f"faults{next(numbers)}", settings)
    yield made
    proxy.fault = None
    await made.close()


async def put(store: S3Store, data: bytes = LARGE) -> StoredObject:
    return await store.put("a", pieces(data), sha256=hashlib.sha256(data).hexdigest())


Work = Callable[[S3Store], Awaitable[object]]
WORKS: dict[str, Work] = {
    "get": lambda store: collect(store.get("a")),
    "stat": lambda store: store.stat("a"),
    "list": keys,
    "put": lambda store: put(store, b"new"),
    "put in parts": put,
    "copy": lambda store: store.copy("a", "b"),
    "delete": lambda store: store.delete_prefix("none/"),
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS.keys())
async def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    store: S3Store, proxy: FaultyS3, work: Work
) -> None:
    await put(store)
    proxy.fault = Fault("refuse", times=1)
    await work(store)
    assert proxy.fault.struck == 1


async def test_a_server_that_stays_busy_is_asked_a_few_times(store: S3Store, proxy: FaultyS3) -> None:
    await put(store)
    proxy.fault = Fault("refuse")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"failed \(SlowDown: .*asked 4 times"):
        await collect(store.get("a"))
    print(f"503 for ever: given up after {proxy.fault.struck} tries, {time.monotonic() - began:.1f} s")
    assert proxy.fault.struck == s3_client.TRIES


async def test_a_download_goes_on_where_its_connection_broke(store: S3Store, proxy: FaultyS3) -> None:
    await put(store, DATA)
    proxy.lines.clear()
    proxy.fault = Fault("cut", "^GET", times=3)
    assert await collect(store.get("a")) == DATA
    asked = [int(line.rpartition("=")[2].split("-")[0]) for line in proxy.lines if "bytes=" in line]
    print(f"3 answers cut in the middle: {len(DATA)} bytes came in {len(asked)} ranges, at {sorted(asked)}")
    assert proxy.fault.struck == 3
    assert any(start % s3_download.RANGE_BYTES for start in asked)


async def test_connections_that_always_break_in_the_middle_bring_it_all_the_same(
    store: S3Store, proxy: FaultyS3
) -> None:
    await put(store, DATA)
    proxy.fault = Fault("cut", "^GET .*bytes=[0-9]{3}")
    assert await collect(store.get("a")) == DATA
    assert proxy.fault.struck > 3


async def test_answers_that_never_come_are_not_waited_for_for_ever(store: S3Store, proxy: FaultyS3) -> None:
    await put(store, DATA)
    proxy.fault = Fault("lose", "^GET")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await collect(store.get("a"))
    assert proxy.fault.struck <= 2 * s3_client.TRIES  # aiohttp asks once more where a connection was reused


async def test_a_slow_server_is_waited_for(store: S3Store, proxy: FaultyS3) -> None:
    await put(store, DATA)
    proxy.fault = Fault("slow", "^GET")
    began = time.monotonic()
    assert await collect(store.get("a")) == DATA
    print(f"64 KiB every 20 ms for each range: {len(DATA) / MIB:.0f} MiB in {time.monotonic() - began:.1f} s")


async def test_a_flipped_bit_is_never_taken(store: S3Store, proxy: FaultyS3) -> None:
    await put(store, DATA)
    proxy.fault = Fault("flip_answer", "^GET", times=1)
    with pytest.raises(DigestMismatch):
        await collect(store.get("a"))
    assert await collect(store.get("a")) == DATA


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["whole", "in parts"])
async def test_a_bit_that_flips_on_the_way_there_is_sent_again(
    store: S3Store, proxy: FaultyS3, data: bytes
) -> None:
    proxy.fault = Fault("flip_request", "^PUT", times=1)
    stored = await put(store, data)
    assert proxy.fault.struck == 1
    assert await store.stat("a") == stored
    assert await collect(store.get("a")) == data


async def test_bits_that_always_flip_store_nothing(store: S3Store, proxy: FaultyS3) -> None:
    proxy.fault = Fault("flip_request", "^PUT")
    for data in (DATA, LARGE):
        with pytest.raises(DigestMismatch, match="arrived damaged"):
            await put(store, data)
    proxy.fault = None
    assert await keys(store) == []


async def test_parts_that_were_joined_though_nobody_heard_of_it_are_there(
    store: S3Store, proxy: FaultyS3
) -> None:
    proxy.fault = Fault("lose", r"^POST .*uploadId", times=1)
    stored = await put(store)
    assert proxy.fault.struck == 1
    assert await store.stat("a") == stored
    assert await collect(store.get("a")) == LARGE


async def test_a_server_that_hangs_is_given_up_and_found_again(store: S3Store, ceph: CephServer) -> None:
    await put(store, DATA)
    with ceph.frozen():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await collect(store.get("a"))
        given_up = time.monotonic() - began
    thawed = time.monotonic()
    assert await collect(store.get("a")) == DATA
    back = time.monotonic() - thawed
    print(f"OSD frozen, patience of 2 s: given up after {given_up:.1f} s, back {back:.1f} s after it was")
    assert given_up < 60


async def test_a_cancelled_download_leaves_nothing_behind(store: S3Store, proxy: FaultyS3) -> None:
    await put(store, LARGE)
    proxy.fault = Fault("slow", "^GET")
    before = len(asyncio.all_tasks())
    getting = asyncio.create_task(collect(store.get("a")))
    async with asyncio.timeout(30):
        while not proxy.fault.struck:  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.01)
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    for _ in range(500):
        if len(asyncio.all_tasks()) <= before + 1:
            break
        await asyncio.sleep(0.01)
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    assert not [name for name in names if "_Range" in name]
