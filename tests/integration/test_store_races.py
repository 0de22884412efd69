"""Many claimers and committers on several stores over one PostgreSQL: one holder each, and no deadlock."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from postgres_server import PostgresServer
from sqlalchemy import event, func, select

from scheduler import settings
from scheduler.hub import Hub
from scheduler.store import claims, jobs, runners
from scheduler.store.commit import GroupCommitter
from scheduler.store.schema import attempts, events
from scheduler.store.schema import jobs as jobs_table
from scheduler.store.store import Store
from scheduler.store.streams import ProgressWrite
from scheduler.sweeper import Sweeper
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


async def queue(store: Store, count: int, *, shuffled: bool = False) -> None:
    """Jobs with nothing to wait for; `shuffled` ones are claimed in another order than that of their ids."""
    job = job_pb2.Job(framework="f", train=job_pb2.TrainSpec(model="m", dataset="datasets/x"))
    async with store.change() as change:
        for number in range(count):
            job.priority = number * 7 % 11 if shuffled else 5
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


async def test_who_loses_attempts_waits_for_streams_and_never_in_a_circle(stores: list[Store]) -> None:
    troubles: list[BaseException] = []
    for store in stores:
        engine = store._database.engine.sync_engine
        event.listen(engine, "handle_error", lambda context: troubles.append(context.original_exception))
    count, sweeper = 30, Sweeper(stores[2], Hub(), settings.read(lease_seconds=0.001))
    await queue(stores[0], count, shuffled=True)
    committers = [GroupCommitter(store) for store in stores[:2]]
    tasks = [asyncio.create_task(committer.run()) for committer in committers]
    line = progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message="x"))
    rounds = 4
    try:
        for attempt in range(1, rounds + 1):
            since = await register(stores[0], "r")
            held = 0
            while held < count:
                async with stores[0].change() as change:
                    held += await claims.claim(change, "r", since, DAY) is not None
            writes = [
                committer.submit(ProgressWrite(f"job-{job:04}", attempt, 1, [line]))
                for committer in committers
                for job in range(count)
            ]
            # It comes back without its attempts: all are lost, while their streams still bring something.
            await asyncio.gather(register(stores[0], "r"), sweeper.sweep(), *writes, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert troubles == []
