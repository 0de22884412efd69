"""A user's script: every public method of both clients, with the type that it must have.

test_client_types.py checks it with mypy --strict, and with no expression allowed to be Any.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import assert_type

import grpc

import visionmesh
from visionmesh import AsyncClient, AsyncJobHandle, Client, JobFailed, JobHandle, MeshError, Reason, errors
from visionmesh.client import TERMINAL_STATES, channel_options
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2

HERE = Path()


def misspelt() -> None:
    visionmesh.Clinet()  # type: ignore[attr-defined]  # is found


def on_progress(done: int, total: int) -> None:
    print(done / total)


def with_client() -> None:
    with Client("127.0.0.1:50051", timeout=5, reconnect_timeout=30) as client:
        assert_type(client, Client)
        assert_type(client.address, str)
        assert_type(client.create_job(job_pb2.Job(), "mine", validate_only=True), JobHandle)
        assert_type(client.job("x"), JobHandle)
        assert_type(client.list_jobs("state = RUNNING"), Iterator[job_pb2.Job])
        assert_type(client.watch_jobs(), Generator[job_pb2.WatchJobsResponse, None, None])
        assert_type(client.upload_file(HERE, on_progress), dataset_pb2.Upload)
        assert_type(client.upload_archive([(HERE, "a.jpg")], "a.zip"), dataset_pb2.Upload)
        assert_type(client.create_dataset(HERE, "shapes"), dataset_pb2.Dataset)
        assert_type(client.dataset("shapes"), dataset_pb2.Dataset)
        assert_type(client.list_datasets(), Iterator[dataset_pb2.Dataset])
        assert_type(client.list_media_items(), Iterator[dataset_pb2.MediaItem])
        client.delete_dataset("shapes")
        assert_type(client.runner("r"), runner_pb2.Runner)
        assert_type(client.list_runners(), Iterator[runner_pb2.Runner])
        assert_type(client.drain_runner("r"), runner_pb2.Runner)
        assert_type(client.undrain_runner("r"), runner_pb2.Runner)


def with_job(job: JobHandle) -> None:
    assert_type(job.name, str)
    assert_type(job.latest, job_pb2.Job | None)
    assert_type(job.get(), job_pb2.Job)
    assert_type(job.watch(after_sequence=3), Generator[progress_pb2.JobEvent, None, None])
    assert_type(job.wait(60, check=True), job_pb2.Job)
    job.wait(60, chek=True)  # type: ignore[call-arg]  # a misspelt argument is found
    assert_type(job.cancel(timedelta(seconds=5)), job_pb2.Job)
    assert_type(job.retry(), JobHandle)
    job.delete()
    assert_type(job.explain(), job_pb2.ExplainJobResponse)
    assert_type(job.events(), Iterator[progress_pb2.JobEvent])
    assert_type(job.metrics(), Iterator[progress_pb2.EpochMetrics])
    assert_type(job.result(), result_pb2.Result)
    assert_type(job.predictions(), Iterator[result_pb2.ImagePrediction])
    assert_type(job.watch_predictions(), Generator[tuple[int, result_pb2.ImagePrediction], None, None])
    assert_type(job.artifacts(), Iterator[result_pb2.Artifact])
    assert_type(job.download("best", HERE, on_progress), Path)
    for event in job.watch():
        assert_type(event.update.epoch_completed.metrics["mAP50"], float)


async def with_async_client() -> None:
    async with AsyncClient("127.0.0.1:50051", timeout=5, reconnect_timeout=30) as client:
        assert_type(client, AsyncClient)
        assert_type(client.address, str)
        assert_type(await client.create_job(job_pb2.Job(), "mine", validate_only=True), AsyncJobHandle)
        assert_type(client.job("x"), AsyncJobHandle)
        assert_type(client.list_jobs("state = RUNNING"), AsyncIterator[job_pb2.Job])
        assert_type(client.watch_jobs(), AsyncGenerator[job_pb2.WatchJobsResponse, None])
        assert_type(await client.upload_file(HERE, on_progress), dataset_pb2.Upload)
        assert_type(await client.upload_archive([(HERE, "a.jpg")], "a.zip"), dataset_pb2.Upload)
        assert_type(await client.create_dataset(HERE, "shapes"), dataset_pb2.Dataset)
        assert_type(await client.dataset("shapes"), dataset_pb2.Dataset)
        assert_type(client.list_datasets(), AsyncIterator[dataset_pb2.Dataset])
        assert_type(client.list_media_items(), AsyncIterator[dataset_pb2.MediaItem])
        await client.delete_dataset("shapes")
        assert_type(await client.runner("r"), runner_pb2.Runner)
        assert_type(client.list_runners(), AsyncIterator[runner_pb2.Runner])
        assert_type(await client.drain_runner("r"), runner_pb2.Runner)
        assert_type(await client.undrain_runner("r"), runner_pb2.Runner)


async def with_async_job(job: AsyncJobHandle) -> None:
    assert_type(job.name, str)
    assert_type(job.latest, job_pb2.Job | None)
    assert_type(await job.get(), job_pb2.Job)
    assert_type(job.watch(after_sequence=3), AsyncGenerator[progress_pb2.JobEvent, None])
    assert_type(await job.wait(60, check=True), job_pb2.Job)
    assert_type(await job.cancel(timedelta(seconds=5)), job_pb2.Job)
    assert_type(await job.retry(), AsyncJobHandle)
    await job.delete()
    assert_type(await job.explain(), job_pb2.ExplainJobResponse)
    assert_type(job.events(), AsyncIterator[progress_pb2.JobEvent])
    assert_type(job.metrics(), AsyncIterator[progress_pb2.EpochMetrics])
    assert_type(await job.result(), result_pb2.Result)
    assert_type(job.predictions(), AsyncIterator[result_pb2.ImagePrediction])
    assert_type(job.watch_predictions(), AsyncGenerator[tuple[int, result_pb2.ImagePrediction], None])
    assert_type(job.artifacts(), AsyncIterator[result_pb2.Artifact])
    assert_type(await job.download("best", HERE, on_progress), Path)
    async for event in job.watch():
        assert_type(event.update.epoch_completed.metrics["mAP50"], float)


def with_errors(job: JobHandle) -> str:
    try:
        ended = job.wait(60, check=True)
        assert_type(ended.state in TERMINAL_STATES, bool)
    except JobFailed as failure:
        assert_type(failure.job.state, vision_pb2.JobState.ValueType)
        stored = errors.error_of(failure.job.error)  # type: ignore[misc]  # google.rpc has no types
        assert_type(stored, MeshError)
    except errors.InvalidRequest as error:
        assert_type(error.violations, tuple[errors.Violation, ...])
    except TimeoutError:
        job.cancel()
    except MeshError as error:
        assert_type(error.code, grpc.StatusCode)
        assert_type(error.retry_delay, timedelta | None)
        match error.reason:
            case Reason.JOB_ALREADY_ENDED:
                return "too late"
            case str() as other:
                return other
    return ""


def with_a_channel_of_ones_own() -> Client:
    options = channel_options("mesh.example:443")
    return Client(channel=grpc.insecure_channel("mesh.example:443", options=options))
