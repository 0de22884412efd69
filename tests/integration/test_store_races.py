"""Many claimers and committers on several stores over one PostgreSQL: one holder each, and no deadlock."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from postgres_server import PostgresServer
from sqlalchemy import func, select

from scheduler.store import claims, jobs, runners
from scheduler.store.commit import GroupCommitter
from scheduler.store.schema import attempts, events
from scheduler.store.schema import jobs as jobs_table
from scheduler.store.store import Store
from scheduler.store.streams import ProgressWrite
from visionmesh.v1 import job_pb2, progress_pb2, runner_pb2

JOBS, CLAIMERS = 1000, 12
DAY = timedelta(days=1)


@pytest.fixture
async def stores(postgres: PostgresServer) -> AsyncIterator[list[Store]]:
    url = postgres.new_database()
    opened = [Store(url, lambda _: None) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in opened))  # all at once: one of them migrates
    yield opened
    for store in opened:
        await store.close()


async def queue(store: Store, count: int) -> None:
    job = job_pb2.Job(framework="f", train=job_pb2.TrainSpec(model="m", dataset="datasets/x"))
    async with store.change() as change:
        for number in range(count):
            await jobs.create(change, f"job-{number:04}", job, trace_id="", retried_from="")


async def register(store: Store, runner_id: str) -> datetime:
    """When it was."""
    message = runner_pb2.Register(runner_id=runner_id, incarnation="only-one")
    message.capacity.slots, message.capacity.cpus = JOBS, JOBS
    message.manifest.framework = "f"
    async with store.change() as change:
        await runners.register(change, message, DAY)
        return change.now


async def claim_all(store: Store, runner_id: str, connect_time: datetime) -> list[claims.Claim]:
    """Claim until nothing is left; a head that another holds at the moment is no reason to stop."""
    mine: list[claims.Claim] = []
    while True:
        async with store.change() as change:
            claim = await claims.claim(change, runner_id, connect_time, DAY)
        if claim is not None:
            mine.append(claim)
            continue
        async with store.read() as connection:
            left = select(func.count()).select_from(jobs_table).where(jobs_table.c.claimable)
            if not (await connection.execute(left)).scalar_one():
                return mine


async def test_each_of_a_thousand_jobs_gets_one_holder(stores: list[Store]) -> None:
    await queue(stores[0], JOBS)
    names = [f"runner-{number}" for number in range(CLAIMERS)]
    since = [await register(stores[0], name) for name in names]
    before = time.monotonic()
    claimed = await asyncio.gather(
        *(claim_all(stores[i % 3], name, since[i]) for i, name in enumerate(names))
    )
    print(f"{JOBS} claims by {CLAIMERS} claimers on 3 stores: {JOBS / (time.monotonic() - before):.0f}/s")
    holders = Counter(claim.job_id for mine in claimed for claim in mine)
    assert len(holders) == JOBS
    assert set(holders.values()) == {1}
    async with stores[0].read() as connection:
        assert (await connection.execute(select(func.count()).select_from(attempts))).scalar_one() == JOBS


async def test_groups_of_several_replicas_commit_without_deadlock(stores: list[Store]) -> None:
    await queue(stores[0], 20)
    since = await register(stores[0], "r")
    while True:
        async with stores[0].change() as change:
            if await claims.claim(change, "r", since, DAY) is None:
                break
    committers = [GroupCommitter(store) for store in stores]
    tasks = [asyncio.create_task(committer.run()) for committer in committers]
    line = progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message="x"))
    begin = progress_pb2.ProgressUpdate(attempt_started=progress_pb2.AttemptStarted(pid=1))
    try:
        for number in range(1, 11):
            update = begin if number == 1 else line
            # The same message comes to every replica, as after a reconnect: it is stored once.
            writes = [
                committer.submit(ProgressWrite(f"job-{job:04}", 1, number, [update]))
                for committer in committers
                for job in random.sample(range(20), 20)
            ]
            reached = await asyncio.gather(*writes)
            assert {one.committed_number for one in reached} == {number}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with stores[0].read() as connection:
        kind = select(func.count()).select_from(events).where(events.c.kind == "log_line")
        assert (await connection.execute(kind)).scalar_one() == 20 * 9
