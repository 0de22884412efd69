"""Several schedulers over one PostgreSQL: they act as one, and outlive their database and their notices."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from live_scheduler import Mesh, running
from postgres_server import PostgresServer
from runner_double import PATIENCE, RunnerDouble, ended, epoch, started

from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2, progress_pb2, vision_pb2

EPOCHS = 20
LISTENERS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


@asynccontextmanager
async def two_schedulers(url: str, folder: Path, images: Path) -> AsyncIterator[tuple[Mesh, Mesh]]:
    """Two replicas on one database and one store of objects."""
    shared = {
        "database_url": url,
        "datasets_url": (folder / "datasets").as_uri(),
        "artifacts_url": (folder / "artifacts").as_uri(),
        "heartbeat_seconds": 60,  # what arrives, arrives by a notice or by looking
        "lease_seconds": 120,
    }
    async with running(folder / "a", **shared) as a, running(folder / "b", **shared) as b:
        await a.client.create_dataset(images, dataset_id="shapes")
        yield a, b


@pytest.fixture
async def replicas(
    postgres: PostgresServer, tmp_path: Path, shapes_folder: Path
) -> AsyncIterator[tuple[Mesh, Mesh]]:
    async with two_schedulers(postgres.new_database(), tmp_path, shapes_folder) as both:
        yield both


def a_train(framework: str) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(model="yolo11n", dataset="datasets/shapes", epochs=EPOCHS)
    return job_pb2.Job(framework=framework, train=spec)


async def watched(mesh: Mesh, job: str) -> list[progress_pb2.JobEvent]:
    """All events of a job until it ends."""
    call = mesh.progress.WatchProgress(progress_pb2.WatchProgressRequest(job=job))
    async with asyncio.timeout(PATIENCE):
        return [response.event async for response in call if response.HasField("event")]


async def cancelled_on(mesh: Mesh, runner: RunnerDouble, job: str) -> float:
    """Cancel there; the seconds until the runner has heard of it."""
    before = time.monotonic()
    await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=job))
    async with asyncio.timeout(PATIENCE):
        assert (await runner.cancels.get()).job == job
    return time.monotonic() - before


async def test_a_watch_on_one_sees_what_a_runner_tells_the_other(
    replicas: tuple[Mesh, Mesh], framework: str
) -> None:
    a, b = replicas
    async with b.runner(framework) as runner:
        job = await a.create(a_train(framework))
        assignment = await runner.take()
        seen = asyncio.create_task(watched(a, job.name))
        progress = await runner.progress(job.name, assignment.attempt)
        await progress.send(started())
        for number in range(1, EPOCHS + 1):
            await progress.send(epoch(number))
        await progress.send(ended())
        events = await seen
    sequences = [event.sequence for event in events]
    assert sequences == list(range(1, len(events) + 1))
    told = [event.update.epoch_completed.epoch for event in events]
    assert [number for number in told if number] == list(range(1, EPOCHS + 1))


async def test_a_cancel_on_one_reaches_a_runner_on_the_other_at_once(
    replicas: tuple[Mesh, Mesh], framework: str
) -> None:
    a, b = replicas
    async with b.runner(framework) as runner:
        job = await a.create(a_train(framework))
        assignment = await runner.take()
        progress = await runner.progress(job.name, assignment.attempt)
        await progress.send(started())
        took = await cancelled_on(a, runner, job.name)
    print(f"a cancel crossed replicas in {took * 1000:.0f} ms")


async def test_what_only_reads_asks_for_no_locks(replicas: tuple[Mesh, Mesh], framework: str) -> None:
    """PostgreSQL refuses them where SQLite knows none."""
    a, b = replicas
    async with b.runner(framework) as runner:
        job = await a.create(a_train(framework))
        assignment = await runner.take()
        uri = await runner.store(job.name, assignment.attempt, "last.pt", b"weights")
        assert uri.endswith(f"attempts/{job.name.removeprefix('jobs/')}/{assignment.attempt}/last.pt")
        assert await runner.fetch(job.name, assignment.attempt, assignment.dataset.uri)
        with pytest.raises(MeshError) as late:
            await runner.fetch(job.name, assignment.attempt + 1, assignment.dataset.uri)
        assert late.value.reason == "ATTEMPT_SUPERSEDED"
    behind = a_train(framework)
    behind.depends_on.append(job.name)
    looked_at = await a.create(behind, validate_only=True)
    assert looked_at.state == vision_pb2.JOB_STATE_PENDING


async def test_a_change_that_is_committed_late_is_told_by_the_other(
    postgres: PostgresServer, tmp_path: Path, shapes_folder: Path, framework: str
) -> None:
    url = postgres.new_database()
    told: dict[str, job_pb2.Job] = {}
    news = asyncio.Condition()

    async def watch(mesh: Mesh) -> None:
        async for response in mesh.client.watch_jobs():
            async with news:
                told[response.job.name] = response.job
                news.notify_all()

    async def hears(what: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), news:
            await news.wait_for(what)

    async with two_schedulers(url, tmp_path, shapes_folder) as (a, b):
        job = await a.create(a_train(framework))
        watching = asyncio.create_task(watch(b))
        await hears(lambda: job.name in told)
        async with await psycopg.AsyncConnection.connect(url) as holder:
            await holder.execute(
                "SELECT FROM jobs WHERE id = %s FOR UPDATE", (job.name.removeprefix("jobs/"),)
            )
            cancelling = asyncio.create_task(a.client.job(job.name).cancel())
            await asyncio.sleep(2.5)  # it has taken its time, and waits for the lock
            later = await b.create(a_train(framework))
            await hears(lambda: later.name in told)
        cancelled = await cancelling
        assert cancelled.update_time.ToDatetime() < later.update_time.ToDatetime()
        await hears(lambda: told[job.name].etag == cancelled.etag)
        watching.cancel()


async def test_without_notices_work_goes_on_later(
    replicas: tuple[Mesh, Mesh], postgres: PostgresServer, framework: str
) -> None:
    a, b = replicas
    async with b.runner(framework) as runner:
        before = time.monotonic()
        await a.create(a_train(framework))
        await runner.take()
        with_notices = time.monotonic() - before
    async with b.runner(f"{framework}_2") as runner:
        assert postgres.run_sql(LISTENERS) != [(0,)]
        before = time.monotonic()
        job = await a.create(a_train(f"{framework}_2"))
        assignment = await runner.take()
        without = time.monotonic() - before
        progress = await runner.progress(job.name, assignment.attempt)
        await progress.send(started(), ended())
    print(f"create to assignment: {with_notices * 1000:.0f} ms, without notices {without * 1000:.0f} ms")
    assert await watched(a, job.name)


async def test_a_database_that_restarts_is_unavailable_and_then_as_it_was(
    replicas: tuple[Mesh, Mesh], postgres: PostgresServer, framework: str
) -> None:
    a, b = replicas
    known = [await a.create(a_train(framework)) for _ in range(5)]
    await asyncio.to_thread(postgres.stop)
    for mesh in (a, b):
        with pytest.raises(MeshError) as away:
            await mesh.get(known[0].name)
        assert away.value.reason == "UNAVAILABLE"
        assert away.value.retry_delay
    await asyncio.to_thread(postgres.start)
    before = time.monotonic()
    last = await created_at_last(b, a_train(framework))
    print(f"{time.monotonic() - before:.2f} s from the server's start to the next job")
    for job in [*known, last]:
        assert await a.get(job.name) == await b.get(job.name)
    async with a.runner(framework) as runner:
        assignment = await runner.take()
        assert assignment.job.name == known[0].name


async def created_at_last(mesh: Mesh, job: job_pb2.Job) -> job_pb2.Job:
    """Create as a client does: again after UNAVAILABLE, under the same request id."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await mesh.create(job, request_id="only-once")
            except MeshError as error:
                if error.reason != "UNAVAILABLE" or error.retry_delay is None:
                    raise
                await asyncio.sleep(error.retry_delay.total_seconds())
