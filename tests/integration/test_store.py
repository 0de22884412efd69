"""The store on SQLite and on PostgreSQL: guarded transitions, group commit, fences, claims, migrations."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from sqlalchemy import Connection, delete, select, text, update

from scheduler.core.model import AttemptEnded, AttemptStarted, AttemptState, Cause, JobState
from scheduler.store import claims, history, jobs, listed_images, media, present, runners
from scheduler.store.commit import GroupCommitter, images_done
from scheduler.store.engine import Database
from scheduler.store.media import Outcome
from scheduler.store.migrate import NewerDatabase, upgrade
from scheduler.store.record import Conflict, Effects
from scheduler.store.schema import jobs as jobs_table
from scheduler.store.schema import metadata
from scheduler.store.schema import runners as runners_table
from scheduler.store.store import Store
from scheduler.store.streams import ProgressWrite, ResultsWrite
from scheduler.store.totals import over_all_attempts
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2

LEASE = timedelta(seconds=30)
NEVER = timedelta(days=1)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    effects: list[Effects] = []
    opened = Store(database_url, effects.append)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def committer(store: Store) -> AsyncIterator[GroupCommitter]:
    made = GroupCommitter(store)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def a_job(**fields: object) -> job_pb2.Job:
    job = job_pb2.Job(
        framework="ultralytics",
        priority=5,
        retry_policy=job_pb2.RetryPolicy(max_attempts=3, multiplier=2),
        train=job_pb2.TrainSpec(model="yolo11n", dataset="datasets/x"),
    )
    job.retry_policy.initial_backoff.FromSeconds(5)
    job.retry_policy.max_backoff.FromSeconds(300)
    job.MergeFrom(job_pb2.Job(**fields))  # type: ignore[arg-type]
    return job


async def create(store: Store, job_id: str, **fields: object) -> None:
    async with store.change() as change:
        await jobs.create(change, job_id, a_job(**fields), trace_id="", retried_from="")


async def register(store: Store, runner_id: str, incarnation: str = "first-one", slots: int = 1) -> None:
    async with store.change() as change:
        await runners.register(change, register_message(runner_id, incarnation, slots), LEASE)


def register_message(runner_id: str, incarnation: str = "first-one", slots: int = 1) -> runner_pb2.Register:
    return runner_pb2.Register(
        runner_id=runner_id,
        incarnation=incarnation,
        capacity=runner_pb2.RunnerCapacity(slots=slots, cpus=8),
        manifest=runner_pb2.FrameworkManifest(framework="ultralytics"),
    )


async def claim(store: Store, runner_id: str, reserve_after: timedelta = NEVER) -> claims.Claim | None:
    async with store.change() as change:
        registered = select(runners_table.c.connect_time).where(runners_table.c.id == runner_id)
        connect_time = (await change.connection.execute(registered)).scalar_one()
        return await claims.claim(change, runner_id, connect_time, reserve_after)


async def running(store: Store, job_id: str = "j", runner_id: str = "r") -> None:
    await create(store, job_id)
    await register(store, runner_id)
    assert await claim(store, runner_id) is not None
    async with store.change() as change:
        assert await runners.accept(change, job_id, 1)


def epoch(number: int) -> progress_pb2.ProgressUpdate:
    done = progress_pb2.EpochCompleted(epoch=number, total_epochs=9, metrics={"mAP50": number / 10})
    return progress_pb2.ProgressUpdate(event_time=Timestamp(seconds=number), epoch_completed=done)


STARTED = progress_pb2.ProgressUpdate(attempt_started=progress_pb2.AttemptStarted(pid=1, seed=7))
SUCCEEDED = progress_pb2.ProgressUpdate(
    attempt_ended=progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_SUCCEEDED)
)


def prediction(index: int, uri: str = "") -> result_pb2.ResultItem:
    return result_pb2.ResultItem(prediction=result_pb2.ImagePrediction(index=index, image_uri=uri))


async def kinds(store: Store, job_id: str = "j") -> list[str | None]:
    async with store.read() as connection:
        events = (await history.read_events(connection, job_id, 0, 1000)).items
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})
        return [event.update.WhichOneof("update") for event in events]


async def the_job(store: Store, job_id: str = "j") -> job_pb2.Job:
    async with store.read() as connection:
        job = await present.job(connection, job_id)
    assert job is not None
    return job


async def test_a_run_from_creation_to_success_is_told_in_order(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store)
    reached = await committer.submit(ProgressWrite("j", 1, 1, [STARTED, epoch(1), epoch(2), SUCCEEDED]))
    assert (reached.committed_number, reached.error) == (4, None)
    assert await kinds(store) == [
        "state_changed",
        "state_changed",
        "attempt_started",
        "epoch_completed",
        "epoch_completed",
        "attempt_ended",
        "state_changed",
    ]
    job = await the_job(store)
    assert job.state == vision_pb2.JOB_STATE_SUCCEEDED
    assert (job.progress.epoch, job.reproducibility.seed) == (2, 7)
    assert job.attempts[0].state == vision_pb2.ATTEMPT_STATE_SUCCEEDED


async def test_a_duplicate_is_acknowledged_again_and_stored_once(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store)
    await committer.submit(ProgressWrite("j", 1, 1, [STARTED, epoch(1)]))
    again = await committer.submit(ProgressWrite("j", 1, 1, [STARTED, epoch(1), epoch(2)]))
    assert again.committed_number == 3
    assert (await kinds(store)).count("epoch_completed") == 2


async def test_the_end_may_be_repeated_after_its_acknowledgement_was_lost(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store)
    await committer.submit(ProgressWrite("j", 1, 1, [STARTED, SUCCEEDED]))
    assert (await committer.submit(ProgressWrite("j", 1, 2, [SUCCEEDED]))).committed_number == 2
    assert (await committer.submit(ProgressWrite("j", 1, 1, []))).committed_number == 2


async def test_a_gap_is_refused_with_the_number_expected(store: Store, committer: GroupCommitter) -> None:
    await running(store)
    with pytest.raises(MeshError) as refused:
        await committer.submit(ProgressWrite("j", 1, 3, [epoch(1)]))
    assert refused.value.reason == "SEQUENCE_GAP"
    assert refused.value.metadata["expected_number"] == "1"


async def test_what_can_never_be_accepted_is_stored_as_rejected_and_acknowledged(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store)
    bad = [
        epoch(0),  # epochs begin at 1
        progress_pb2.ProgressUpdate(),  # says nothing that this version knows
        progress_pb2.ProgressUpdate(state_changed=progress_pb2.StateChanged()),  # not a runner's to say
        STARTED,
        STARTED,  # cannot start twice
        epoch(1),
    ]
    reached = await committer.submit(ProgressWrite("j", 1, 1, bad))
    assert (reached.committed_number, reached.error) == (6, None)
    assert (await kinds(store)).count("rejected") == 4
    assert (await kinds(store))[-1] == "epoch_completed"


async def test_a_superseded_attempt_is_fenced_and_the_rest_of_its_group_is_committed(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store, "a", "ra")
    await running(store, "b", "rb")
    async with store.change() as change:
        record = await change.job("a")
        record.apply(AttemptEnded(AttemptState.LOST, Cause.RUNNER_LOST), change.now)
    outcomes = await asyncio.gather(
        committer.submit(ProgressWrite("a", 1, 1, [STARTED])),
        committer.submit(ProgressWrite("b", 1, 1, [STARTED])),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], MeshError)
    assert outcomes[0].reason == "ATTEMPT_SUPERSEDED"
    assert not isinstance(outcomes[1], BaseException)
    assert (await the_job(store, "b")).state == vision_pb2.JOB_STATE_RUNNING


async def test_an_end_before_its_results_is_refused(store: Store, committer: GroupCommitter) -> None:
    await running(store)
    ended = progress_pb2.ProgressUpdate()
    ended.CopyFrom(SUCCEEDED)
    ended.attempt_ended.results_number = 2
    await committer.submit(ResultsWrite("j", 1, 1, [prediction(0)]))
    early = await committer.submit(ProgressWrite("j", 1, 1, [STARTED, ended]))
    assert (early.committed_number, early.error and early.error.reason) == (1, "RESULTS_OUTSTANDING")
    await committer.submit(ResultsWrite("j", 1, 2, [prediction(1)]))
    assert (await committer.submit(ProgressWrite("j", 1, 2, [ended]))).committed_number == 2


async def test_predictions_are_kept_once_per_image_over_attempts(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store)
    await committer.submit(ProgressWrite("j", 1, 1, [STARTED]))
    await committer.submit(ResultsWrite("j", 1, 1, [prediction(0, "first"), prediction(1, "first")]))
    async with store.change() as change:
        record = await change.job("j")
        record.apply(AttemptEnded(AttemptState.RELEASED, Cause.DRAINED), change.now)
    assert await claim(store, "r") is not None
    await committer.submit(ResultsWrite("j", 2, 1, [prediction(1, "second"), prediction(3, "second")]))
    async with store.read() as connection:
        found = (await history.read_predictions(connection, "j", -1, 10)).items
        assert await images_done(connection, "j") == 2
    assert [(p.index, p.image_uri) for p in found] == [(0, "first"), (1, "first"), (3, "second")]


async def test_totals_count_the_images_of_every_attempt(store: Store, committer: GroupCommitter) -> None:
    await running(store)
    await committer.submit(ProgressWrite("j", 1, 1, [STARTED]))
    await committer.submit(ResultsWrite("j", 1, 1, [prediction(0), prediction(1)]))
    async with store.change() as change:
        record = await change.job("j")
        record.apply(AttemptEnded(AttemptState.RELEASED, Cause.DRAINED), change.now)
    assert await claim(store, "r") is not None
    await committer.submit(ResultsWrite("j", 2, 1, [prediction(2)]))
    async with store.read() as connection:
        assert (await over_all_attempts(connection, "j")).total_images == 3


async def test_sequences_of_a_job_have_no_gap(store: Store, committer: GroupCommitter) -> None:
    await running(store)
    await committer.submit(ProgressWrite("j", 1, 1, [STARTED, epoch(1)]))
    await committer.submit(ResultsWrite("j", 1, 1, [prediction(0), prediction(1), prediction(1)]))
    await committer.submit(ProgressWrite("j", 1, 3, [epoch(2)]))
    async with store.read() as connection:
        events = await history.read_events(connection, "j", 0, 100)
        predictions = await history.read_new_predictions(connection, "j", 0, 100)
        told = [event.sequence for event in events.items] + [number for number, _ in predictions.items]
        where = await history.position(connection, "j")
    assert where is not None
    assert sorted(told) == list(range(1, where.sequence + 1))


async def test_a_row_that_changed_behind_the_lock_is_a_conflict(store: Store) -> None:
    await running(store)

    async def change_twice() -> None:
        async with store.change() as change:
            record = await change.job("j")
            await change.connection.execute(
                update(jobs_table).where(jobs_table.c.id == "j").values(state=JobState.CANCELLED)
            )
            record.apply(AttemptStarted(), change.now)

    with pytest.raises(Conflict):
        await change_twice()
    assert (await the_job(store)).state == vision_pb2.JOB_STATE_QUEUED


async def test_claims_go_by_priority_then_first_come(store: Store) -> None:
    await create(store, "low", priority=1)
    await create(store, "first")
    await create(store, "second")
    await create(store, "urgent", priority=9)
    await register(store, "r", slots=9)
    order = [found.job_id for _ in range(4) if (found := await claim(store, "r"))]
    assert order == ["urgent", "first", "second", "low"]


async def test_a_job_that_does_not_fit_blocks_nobody_and_is_not_starved(store: Store) -> None:
    await register(store, "r", slots=2)
    await create(store, "small")
    assert (await claim(store, "r")) is not None
    await create(store, "big", priority=9, resources=job_pb2.Resources(cpus=8))
    async with store.change() as change:  # the small one now occupies a core of the eight
        await change.connection.execute(text("UPDATE shapes SET cpus = 1 WHERE cpus = 0"))
    await create(store, "tiny")
    await create(store, "tiny-too")
    assert (passed := await claim(store, "r")) is not None
    assert passed.job_id == "tiny"
    async with store.change() as change:
        record = await change.job("tiny")
        record.apply(AttemptEnded(AttemptState.LOST, Cause.NOT_ACCEPTED), change.now)
    assert await claim(store, "r", reserve_after=timedelta(0)) is None, (
        "the runner is kept free for the big one"
    )
    assert await claim(store, "r", reserve_after=timedelta(0)) is None
    async with store.change() as change:
        record = await change.job("small")
        record.apply(AttemptEnded(AttemptState.RELEASED, Cause.DRAINED), change.now)
    assert (got := await claim(store, "r", reserve_after=timedelta(0))) is not None
    assert got.job_id == "big"


async def test_a_runner_that_comes_back_without_its_attempt_has_lost_it(store: Store) -> None:
    await running(store)
    await register(store, "r", incarnation="second-one")
    job = await the_job(store)
    assert job.state == vision_pb2.JOB_STATE_PENDING
    assert job.attempts[0].cause == vision_pb2.ATTEMPT_CAUSE_RUNNER_LOST
    assert "came back without the attempt" in job.attempts[0].error.message


async def test_dependents_go_on_after_success_and_fail_after_failure(
    store: Store, committer: GroupCommitter
) -> None:
    await running(store)
    await create(store, "after", depends_on=["jobs/j"])
    await create(store, "after-that", depends_on=["jobs/after"])
    await committer.submit(ProgressWrite("j", 1, 1, [STARTED, SUCCEEDED]))
    async with store.change() as change:
        assert await jobs.settle_dependencies(change) == 1
        await jobs.cancel(change, "after", timedelta(0))
    async with store.change() as change:
        await jobs.settle_dependencies(change)
    assert (await the_job(store, "after")).state == vision_pb2.JOB_STATE_CANCELLED
    failed = await the_job(store, "after-that")
    assert failed.state == vision_pb2.JOB_STATE_FAILED
    assert "jobs/after" in failed.error.message


async def test_a_dependency_that_cannot_succeed_is_refused(store: Store) -> None:
    await create(store, "j")
    async with store.change() as change:
        await jobs.cancel(change, "j", timedelta(0))
    with pytest.raises(MeshError) as refused:
        await create(store, "after", depends_on=["jobs/j"])
    assert refused.value.reason == "DEPENDENCY_FAILED"


async def test_queue_timeouts_and_backoffs_come_due(store: Store, committer: GroupCommitter) -> None:
    job = a_job()
    job.queue_timeout.FromMilliseconds(1)
    async with store.change() as change:
        await jobs.create(change, "late", job, trace_id="", retried_from="")
    async with store.change() as change:
        change.now += timedelta(seconds=1)
        assert await jobs.fail_queue_timeouts(change) == 1
    assert "queue_timeout" in (await the_job(store, "late")).error.message
    await running(store)
    failed = progress_pb2.AttemptEnded(
        outcome=vision_pb2.ATTEMPT_STATE_FAILED, cause=vision_pb2.ATTEMPT_CAUSE_PROCESS_DIED
    )
    await committer.submit(
        ProgressWrite("j", 1, 1, [STARTED, progress_pb2.ProgressUpdate(attempt_ended=failed)])
    )
    async with store.change() as change:
        assert await jobs.queue_after_backoff(change) == 0
        change.now += timedelta(seconds=7)
        assert await jobs.queue_after_backoff(change) == 1


async def test_tables_and_migrations_say_the_same(database_url: str) -> None:
    database = Database(database_url)
    await upgrade(database)

    def difference(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.read() as connection:
        assert await connection.run_sync(difference) == []
    await database.close()


async def test_a_newer_database_is_refused_with_the_way_out(database_url: str) -> None:
    database = Database(database_url)
    await upgrade(database)
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerDatabase, match=r"'9999'.*which this version does not know"):
        await upgrade(database)
    await database.close()


async def test_the_end_of_an_old_stream_does_not_take_the_new_one_offline(store: Store) -> None:
    moments = []
    for _ in range(2):  # one process dials twice: its first stream died unnoticed
        async with store.change() as change:
            await runners.register(change, register_message("r"), LEASE)
            moments.append(change.now)
    async with store.change() as change:
        await runners.disconnect(change, "r", moments[0])
        known = await claims.node(change.connection, "r", change.now)
        assert known is not None
        assert known[0].online
        await runners.disconnect(change, "r", moments[1])
        gone = await claims.node(change.connection, "r", change.now)
        assert gone is not None
        assert not gone[0].online


async def test_a_stream_that_is_gone_does_nothing_for_its_runner(store: Store) -> None:
    """As that of a frozen replica, when it goes on: nobody would hear of what it assigns."""
    await create(store, "j")
    moments = []
    for _ in range(2):
        async with store.change() as change:
            await runners.register(change, register_message("r"), LEASE)
            moments.append(change.now)
    async with store.change() as change:
        assert await claims.claim(change, "r", moments[0], NEVER) is None
    with pytest.raises(MeshError) as old:
        async with store.change() as change:
            await runners.heartbeat(change, "r", "first-one", moments[0], 2 * LEASE)
    assert old.value.reason == Reason.UNAVAILABLE  # not for good: it is no other process
    async with store.change() as change:
        taken = await claims.claim(change, "r", moments[1], NEVER)
        assert taken is not None
        assert taken.job_id == "j"
        assert await runners.heartbeat(change, "r", "first-one", moments[1], LEASE) == change.now + LEASE


async def test_another_process_with_the_same_id_takes_it_over(store: Store) -> None:
    async with store.change() as change:
        await runners.register(change, register_message("r"), LEASE)
        before = change.now
    await register(store, "r", "second-one")
    with pytest.raises(MeshError) as superseded:
        async with store.change() as change:
            await runners.heartbeat(change, "r", "first-one", before, LEASE)
    assert superseded.value.reason == Reason.RUNNER_SUPERSEDED


async def test_images_of_the_media_store_are_known_by_how_the_last_try_ended(store: Store) -> None:
    away = status_pb2.Status(code=14, message="away")
    gone = status_pb2.Status(code=5, message="gone")
    fetched = Outcome("b", "SYNCED", 7, "5ha", "image/png")
    async with store.change() as change:
        await media.name_by(change, ["b", "a", "b", "ü"], "first")
    async with store.change() as change:
        tries = [Outcome("b", "PENDING", error=away), fetched, Outcome("c", "GONE", error=gone)]
        await media.record(change, tries, "x")
        await media.record(change, [Outcome("a", "PENDING", error=away)], "first")
    async with store.change() as change:
        await media.name_by(change, ["b", "a"], "second")
        await media.record(change, [Outcome("b", "GONE", error=gone)], "second")
    async with store.read() as connection:
        found = await media.page(connection, "", [], "", 10)
        assert [item.id for item in await media.page(connection, "GONE", [], "", 10)] == ["b", "c"]
        assert [item.id for item in await media.page(connection, "", ["c", "a"], "a", 10)] == ["c"]
        assert [item.id for item in await media.page(connection, "", [], "a", 1)] == ["b"]
    states = {item.id: dataset_pb2.MediaItemState.Name(item.state)[17:] for item in found}
    assert states == {"a": "PENDING", "b": "GONE", "c": "GONE", "ü": "PENDING"}
    by_id = {item.id: item for item in found}
    assert (by_id["b"].size_bytes, by_id["b"].sha256, by_id["b"].error.message) == (7, "5ha", "gone")
    assert {key: item.job for key, item in by_id.items()} == {
        "a": "jobs/second",
        "b": "jobs/second",
        "c": "jobs/x",
        "ü": "jobs/first",
    }
    assert (by_id["a"].error.message, by_id["ü"].HasField("sync_time")) == ("away", False)


async def test_folders_are_listed_with_their_job_and_forgotten_with_it(store: Store) -> None:
    await running(store)
    async with store.change() as change:
        await listed_images.keep(change, "j", ["file:///b", "file:///a"])
    async with store.read() as connection:
        assert await listed_images.of(connection, "j") == ["file:///b", "file:///a"]
        assert await listed_images.of(connection, "other") is None
    async with store.change() as change:
        await change.connection.execute(delete(jobs_table).where(jobs_table.c.id == "j"))
    async with store.read() as connection:
        assert await listed_images.of(connection, "j") is None
