"""Watches of a real scheduler: each event once, in order, and resumable."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from live_scheduler import Mesh, StartMesh
from runner_double import PATIENCE, Numbered, RunnerDouble, refusal

from visionmesh.errors import MeshError
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

STARTED = progress_pb2.ProgressUpdate(attempt_started=progress_pb2.AttemptStarted(pid=1))


def epoch(number: int) -> progress_pb2.ProgressUpdate:
    done = progress_pb2.EpochCompleted(epoch=number, total_epochs=9, metrics={"mAP50": 0.1})
    return progress_pb2.ProgressUpdate(epoch_completed=done)


def log_line(text: str) -> progress_pb2.ProgressUpdate:
    return progress_pb2.ProgressUpdate(log_line=progress_pb2.LogLine(message=text))


def prediction(index: int) -> result_pb2.ResultItem:
    return result_pb2.ResultItem(prediction=result_pb2.ImagePrediction(index=index))


def end(results: int = 0) -> progress_pb2.ProgressUpdate:
    ended = progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_SUCCEEDED, results_number=results)
    return progress_pb2.ProgressUpdate(attempt_ended=ended)


def job_of(dataset: dataset_pb2.Dataset, framework: str) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name)
    return job_pb2.Job(framework=framework, train=spec)


class Run:
    """A running job of a scripted runner."""

    def __init__(self, name: str, runner: RunnerDouble, progress: Numbered) -> None:
        self.name, self.runner, self.progress = name, runner, progress


Runs = Callable[..., Any]


@pytest.fixture
def a_run(mesh: Mesh, dataset: dataset_pb2.Dataset, request: pytest.FixtureRequest) -> Runs:
    """Starts a job on a runner of its own."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Run]:
        framework = "watch_" + str(abs(hash(request.node.name)))[:12]
        async with mesh.runner(framework) as runner:
            job = await mesh.create(job_of(dataset, framework))
            assignment = await runner.take()
            progress = await runner.progress(job.name, assignment.attempt)
            await progress.send(STARTED)
            yield Run(job.name, runner, progress)

    return start


async def events(
    mesh: Mesh, job: str, after: int = 0, count: int | None = None
) -> list[progress_pb2.JobEvent]:
    """Events of a watch: all until it ends, or the first `count`."""
    found: list[progress_pb2.JobEvent] = []
    call = mesh.progress.WatchProgress(progress_pb2.WatchProgressRequest(job=job, after_sequence=after))
    async with asyncio.timeout(PATIENCE):
        async for response in call:
            if response.HasField("event"):
                found.append(response.event)
                if len(found) == count:
                    call.cancel()
                    break
    return found


async def test_a_watch_tells_what_was_stored_then_what_comes_and_ends_by_itself(
    mesh: Mesh, a_run: Runs
) -> None:
    async with a_run() as run:
        await run.progress.send(epoch(1))
        late = asyncio.create_task(events(mesh, run.name))
        await events(mesh, run.name, count=3)  # another watcher is where the late one must come
        await run.progress.send(epoch(2), end())
        told = await late
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    kinds = [event.update.WhichOneof("update") for event in told]
    assert kinds[-2:] == ["attempt_ended", "state_changed"]
    assert kinds.count("epoch_completed") == 2


async def test_a_watch_that_is_cut_anywhere_goes_on_without_gap_or_repeat(mesh: Mesh, a_run: Runs) -> None:
    async with a_run() as run:
        await run.progress.send(*(epoch(number) for number in range(1, 9)), end())
        whole = await events(mesh, run.name)
        for cut in range(1, len(whole)):
            first = await events(mesh, run.name, count=cut)
            rest = await events(mesh, run.name, after=first[-1].sequence)
            assert first + rest == whole


async def test_an_idle_watch_tells_how_far_it_is(mesh: Mesh, a_run: Runs) -> None:
    async with a_run() as run:
        call = mesh.progress.WatchProgress(progress_pb2.WatchProgressRequest(job=run.name))
        newest = (await mesh.get(run.name)).sequence
        async with asyncio.timeout(PATIENCE):
            async for response in call:
                if response.HasField("bookmark"):
                    assert response.bookmark.sequence == newest
                    break
        call.cancel()


async def test_predictions_are_watched_by_the_same_number(mesh: Mesh, a_run: Runs) -> None:
    async with a_run() as run:
        results = await run.runner.results(run.name, 1)
        await results.send(prediction(0), prediction(1))
        await run.progress.send(epoch(1))
        await results.send(prediction(2))
        await run.progress.send(end(results=3))
        async with asyncio.timeout(PATIENCE):
            watch = mesh.results.WatchPredictions(result_pb2.WatchPredictionsRequest(job=run.name))
            told = [
                (said.sequence, said.prediction.index) async for said in watch if said.HasField("prediction")
            ]
        assert [index for _sequence, index in told] == [0, 1, 2]
        seen = [event.sequence for event in await events(mesh, run.name)]
        assert sorted(seen + [sequence for sequence, _index in told]) == list(range(1, len(seen) + 4))


async def test_a_watch_of_all_jobs_tells_states_then_changes_and_resumes(
    mesh: Mesh, dataset: dataset_pb2.Dataset
) -> None:
    label = {"watch": "all"}
    wanted = job_of(dataset, "nobody_runs_this")
    wanted.labels.update(label)
    first = await mesh.create(wanted)
    request = job_pb2.WatchJobsRequest(filter="labels.watch = all")
    call = mesh.jobs.WatchJobs(request)
    token, told = "", []
    async with asyncio.timeout(PATIENCE):
        async for response in call:
            token = response.resume_token
            if response.HasField("bookmark"):
                break
            told.append(response.job.name)
    call.cancel()
    assert told == [first.name]

    second = await mesh.create(wanted)
    await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=first.name))
    await mesh.call(mesh.jobs.DeleteJob, job_pb2.DeleteJobRequest(name=first.name))
    request.resume_token = token
    changes: set[str] = set()
    call = mesh.jobs.WatchJobs(request)
    async with asyncio.timeout(PATIENCE):
        async for response in call:
            changes.add(response.left or response.job.name)
            if {first.name, second.name} <= changes:
                break
    call.cancel()


async def test_a_watch_of_an_absent_job_is_refused(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await events(mesh, "jobs/nobody")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_that_does_not_read_is_cut_and_delays_nobody(
    start_mesh: StartMesh, shapes_folder: Any
) -> None:
    async with start_mesh(stalled_watcher_seconds=0.1, bookmark_seconds=1) as mesh:
        dataset = await mesh.client.create_dataset(shapes_folder, dataset_id="shapes")
        async with mesh.runner("busy") as runner:
            job = await mesh.create(job_of(dataset, "busy"))
            await runner.take()
            progress = await runner.progress(job.name, 1)
            await progress.send(STARTED)
            stalled = mesh.progress.WatchProgress(progress_pb2.WatchProgressRequest(job=job.name))
            await stalled.read()  # and never again
            text = "x" * 8000
            for _ in range(10):  # 8 MB: more than the buffers of a connection hold
                await progress.send(*(log_line(text) for _ in range(100)))
            await progress.send(end())
            told = await events(mesh, job.name)
            assert [event.sequence for event in told] == list(range(1, len(told) + 1))
            await idle_for_a_second(mesh, job_of(dataset, "nobody"))
            with pytest.raises(MeshError) as cut:
                await read_to_the_end(stalled)
    assert cut.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert cut.value.reason == "SLOW_CONSUMER"


async def idle_for_a_second(mesh: Mesh, job: job_pb2.Job) -> None:
    """Wait for the bookmark of a watch on which nothing happens: longer than a stall may last."""
    waiting = await mesh.create(job)
    call = mesh.progress.WatchProgress(progress_pb2.WatchProgressRequest(job=waiting.name))
    async with asyncio.timeout(PATIENCE):
        while not (await call.read()).HasField("bookmark"):
            pass
    call.cancel()


async def read_to_the_end(call: Any) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        raise refusal(error) from None
