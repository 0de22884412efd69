"""Many watchers of one job read the store as one does, and miss nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from scheduler.hub import Hub, job_topic
from scheduler.lookout import Lookout
from scheduler.services.shared_reads import MOST_KEPT, JobPages, SharedReads
from scheduler.store import history, jobs
from scheduler.store.engine import Connection
from scheduler.store.store import Store
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import job_pb2, progress_pb2

WATCHERS = 100


class History:
    """Reads events, counts how often, and can be held up."""

    def __init__(self) -> None:
        self.reads = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def read(
        self, connection: Connection, job_id: str, after: int, limit: int, max_bytes: int
    ) -> history.Slice[tuple[int, progress_pb2.JobEvent]]:
        self.reads += 1
        found = await history.read_events(connection, job_id, after, limit, max_bytes)
        self.begun.set()
        await self.go_on.wait()
        return history.Slice([(event.sequence, event) for event in found.items], found.more)


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
async def store(hub: Hub, tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/test.db", hub.publish)
    await opened.open()
    async with opened.change() as change:
        spec = job_pb2.TrainSpec(model="yolo11n", dataset="datasets/x")
        job = job_pb2.Job(framework="ultralytics", train=spec)
        await jobs.create(change, "j", job, trace_id="", retried_from="")
    yield opened
    await opened.close()


@pytest.fixture
def stored() -> History:
    return History()


@pytest.fixture
def reads(store: Store, hub: Hub, stored: History) -> SharedReads:
    return SharedReads(store, hub, stored.read)


async def end(store: Store) -> None:
    """The job is cancelled: more events, and the last ones."""
    async with store.change() as change:
        await jobs.cancel(change, "j", timedelta(0))


async def follow(hub: Hub, pages: JobPages) -> list[int]:
    """Sequences that a watcher sees until the job has ended."""
    told: list[int] = []
    with hub.subscribe(job_topic("j")) as subscription:
        while True:
            page = await pages.after(told[-1] if told else 0, subscription.moment)
            told += [sequence for sequence, _ in page.items]
            if page.position.ended and not page.more:
                return told
            if not page.more and subscription.has_read(page.moment):
                await subscription.wait(60)


async def until_all_wait() -> None:
    for _ in range(200):
        await asyncio.sleep(0.001)


async def test_a_crowd_reads_as_often_as_one(
    store: Store, hub: Hub, reads: SharedReads, stored: History
) -> None:
    with reads.of("j") as pages:
        crowd = [asyncio.create_task(follow(hub, pages)) for _ in range(WATCHERS)]
        await until_all_wait()
        before = stored.reads
        await end(store)
        async with asyncio.timeout(30):
            told = await asyncio.gather(*crowd)
    assert told == [told[0]] * WATCHERS
    assert told[0] == list(range(1, len(told[0]) + 1))
    assert len(told[0]) > 1
    assert (before, stored.reads) == (1, 2)


async def test_a_wake_up_while_a_page_is_read_is_not_missed(
    store: Store, hub: Hub, reads: SharedReads, stored: History
) -> None:
    stored.go_on.clear()
    with reads.of("j") as pages:
        crowd = [asyncio.create_task(follow(hub, pages)) for _ in range(WATCHERS)]
        await stored.begun.wait()
        await end(store)  # the read on its way has a view from before
        late = [asyncio.create_task(follow(hub, pages)) for _ in range(WATCHERS)]
        stored.go_on.set()
        async with asyncio.timeout(30):
            told = await asyncio.gather(*crowd, *late)
    assert told == [told[0]] * 2 * WATCHERS
    assert len(told[0]) > 1


async def test_no_more_pages_are_kept_than_watchers(store: Store, reads: SharedReads, hub: Hub) -> None:
    with reads.of("j") as first:
        for after in range(MOST_KEPT * 2):
            await first.after(after, hub.moment)
        assert len(first._kept) == 1
        with reads.of("j") as second:
            assert second is first
            await first.after(MOST_KEPT * 3, hub.moment)
            assert len(first._kept) == 2
    with reads.of("j") as later:
        assert later is not first
        assert not later._kept


async def test_a_watcher_that_leaves_takes_no_read_with_it(
    hub: Hub, reads: SharedReads, stored: History
) -> None:
    stored.go_on.clear()
    with reads.of("j") as pages:
        leaver, stayer = (asyncio.create_task(pages.after(0, hub.moment)) for _ in range(2))
        await stored.begun.wait()
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        stored.go_on.set()
        async with asyncio.timeout(30):
            assert [sequence for sequence, _ in (await stayer).items] == [1]
    assert stored.reads == 1


async def test_a_deleted_job_is_refused_though_pages_of_it_were_kept(
    store: Store, hub: Hub, reads: SharedReads
) -> None:
    with reads.of("j") as pages, reads.of("j"):
        last = (await pages.after(0, hub.moment)).position.sequence
        assert not (await pages.after(last, hub.moment)).items
        await end(store)
        async with store.change() as change:
            await jobs.remove(change, "j")
        hub.wake(job_topic("j"))
        for after in (last, 0):  # the page after 0 was kept until then
            with pytest.raises(MeshError) as refused:
                await pages.after(after, hub.moment)
            assert refused.value.reason == Reason.NOT_FOUND


async def test_the_lookout_wakes_whom_no_hint_has_reached(store: Store, hub: Hub, tmp_path: Path) -> None:
    elsewhere = Store(f"sqlite:///{tmp_path}/test.db", lambda _: None)  # tells nobody here
    lookout = Lookout(store, hub)
    with hub.subscribe(job_topic("j")) as subscription:
        await lookout.look()  # it was not watched before: nobody knows what was missed
        await subscription.wait(0)
        seen = subscription.moment
        await lookout.look()
        assert subscription.has_read(seen)
        await end(elsewhere)
        await lookout.look()
        assert not subscription.has_read(seen)
    await elsewhere.close()
