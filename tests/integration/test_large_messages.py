"""Large messages are split, refused or told as rejected; no stream and no list ever stops at one.

The channels here keep gRPC's own limit of 4 MiB for what a client takes, as clients in any language do.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from runner_double import ended, epoch, line, started

from visionmesh.errors import MeshError, Reason, reason_of
from visionmesh.limits import MAX_ITEM_BYTES, MAX_JOB_BYTES, MAX_RECEIVED_BYTES, MAX_REQUEST_BYTES, MIB
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


def prediction(index: int, size_bytes: int) -> result_pb2.ResultItem:
    """A prediction whose masks take so many bytes."""
    mask = result_pb2.Mask(counts=b"x" * size_bytes)
    detection = result_pb2.Detection(class_name="shape", confidence=0.5, mask=mask)
    return result_pb2.ResultItem(
        prediction=result_pb2.ImagePrediction(index=index, image_uri=f"{index}.jpg", detections=[detection])
    )


async def infer(mesh: Any, framework: str, dataset: str) -> job_pb2.Job:
    checkpoint = await mesh.upload("best.pt", b"weights")
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset))
    spec = job_pb2.InferSpec(checkpoint=checkpoint.name, images=images)
    return job_pb2.Job(framework=framework, infer=spec)


@pytest_asyncio.fixture(loop_scope="module")
async def predicting(mesh: Any, dataset: Any, framework: str) -> AsyncIterator[tuple[str, Any, Any]]:
    """A running job with its progress and result streams."""
    async with mesh.runner(framework) as runner:
        name = (await mesh.create(await infer(mesh, framework, dataset.name))).name
        assignment, progress = await runner.start()
        yield name, progress, await runner.results(name, assignment.attempt)


async def test_pages_and_watches_of_large_predictions_fit_everywhere(mesh: Any, predicting: Any) -> None:
    name, progress, results = predicting
    for index in range(24):
        await results.send(prediction(index, MIB))
    await progress.send(ended(results_number=24))
    request = result_pb2.ListPredictionsRequest(parent=name, page_size=1000)
    listed: list[int] = []
    while True:
        page = await mesh.call(mesh.results.ListPredictions, request)
        listed += [found.index for found in page.predictions]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == list(range(24))
    watched = [
        response.prediction.index
        async for response in mesh.results.WatchPredictions(result_pb2.WatchPredictionsRequest(job=name))
        if response.HasField("prediction")
    ]
    assert watched == list(range(24))


async def test_the_largest_prediction_that_is_stored_can_be_read(mesh: Any, predicting: Any) -> None:
    name, _progress, results = predicting
    await results.send(prediction(0, MAX_ITEM_BYTES - 100))
    page = await mesh.call(mesh.results.ListPredictions, result_pb2.ListPredictionsRequest(parent=name))
    assert len(page.predictions[0].detections[0].mask.counts) == MAX_ITEM_BYTES - 100


async def events(mesh: Any, name: str) -> list[progress_pb2.ProgressUpdate]:
    request = job_pb2.ListJobEventsRequest(parent=name, page_size=1000)
    return [event.update for event in (await mesh.call(mesh.jobs.ListJobEvents, request)).events]


async def rejected(mesh: Any, name: str) -> list[tuple[int, str]]:
    found = [update.rejected for update in await events(mesh, name) if update.HasField("rejected")]
    return [(refused.number, refused.reason) for refused in found]


async def test_a_result_that_is_too_large_is_rejected_and_the_stream_goes_on(
    mesh: Any, predicting: Any
) -> None:
    name, progress, results = predicting
    assert await results.send(prediction(0, 10), prediction(1, MAX_ITEM_BYTES), prediction(2, 10)) == 3
    assert await rejected(mesh, name) == [(2, Reason.MESSAGE_TOO_LARGE)]
    page = await mesh.call(mesh.results.ListPredictions, result_pb2.ListPredictionsRequest(parent=name))
    assert [found.index for found in page.predictions] == [0, 2]
    await progress.send(ended(results_number=3))
    assert (await mesh.get(name)).state == vision_pb2.JOB_STATE_SUCCEEDED


async def test_an_update_that_is_too_large_is_rejected_and_the_stream_goes_on(
    mesh: Any, predicting: Any
) -> None:
    name, progress, _results = predicting
    metrics = {f"metric-{number}": 0.5 for number in range(20_000)}
    await progress.send(epoch(1, **metrics), line("still here"))
    assert await rejected(mesh, name) == [(2, Reason.MESSAGE_TOO_LARGE)]
    assert (await events(mesh, name))[-1].log_line.message == "still here"


async def test_the_end_of_an_attempt_is_taken_however_much_it_says(mesh: Any, predicting: Any) -> None:
    name, progress, _results = predicting
    await progress.send(ended("FAILED", "USER_ERROR", "no " * MIB))
    job = await mesh.get(name)
    assert job.state == vision_pb2.JOB_STATE_FAILED
    assert job.error.message.startswith("no no")
    assert job.error.message.endswith("…")
    assert job.ByteSize() < MIB


async def test_a_request_above_the_limit_is_refused_on_a_stream_too(mesh: Any, predicting: Any) -> None:
    name, progress, results = predicting
    with pytest.raises(MeshError, match="at most") as caught:
        await results.send(*(prediction(index, MIB) for index in range(MAX_REQUEST_BYTES // MIB)))
    assert (caught.value.code, caught.value.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.MESSAGE_TOO_LARGE,
    )
    await progress.send(line("the other stream goes on"))
    assert await rejected(mesh, name) == []


@pytest.mark.parametrize("method", ["stream_stream", "stream_unary", "unary_unary"])
async def test_beyond_that_grpc_itself_refuses_with_the_same_code(mesh: Any, method: str) -> None:
    path = {
        "stream_stream": "/visionmesh.v1.ProgressService/ReportProgress",
        "stream_unary": "/visionmesh.v1.DatasetService/UploadFile",
        "unary_unary": "/visionmesh.v1.JobService/CreateJob",
    }[method]
    data = bytes(MAX_RECEIVED_BYTES + 1)

    async def requests() -> AsyncIterator[bytes]:
        yield data

    call = getattr(mesh.channel, method)(path)(data if method == "unary_unary" else requests())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if method == "stream_stream" else call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(caught.value.details())


async def test_jobs_as_large_as_they_may_be_can_be_listed(
    mesh: Any, dataset: Any, a_train: Callable[..., job_pb2.Job]
) -> None:
    made = []
    for _ in range(5):
        job = a_train(runner_selector={"place": "x" * (MAX_JOB_BYTES - 10_000)})
        made.append((await mesh.create(job)).name)
    listed: list[str] = []
    request = job_pb2.ListJobsRequest(page_size=500, filter=f"framework = {job.framework}")
    while True:
        page = await mesh.call(mesh.jobs.ListJobs, request)
        listed += [found.name for found in page.jobs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(listed) == sorted(made)
    watched: set[str] = set()
    call = mesh.jobs.WatchJobs(job_pb2.WatchJobsRequest(filter=f"framework = {job.framework}"))
    async for response in call:
        watched.add(response.job.name)
        if response.HasField("bookmark"):
            break
    call.cancel()
    assert watched >= set(made)


async def test_a_job_that_is_too_large_is_refused(mesh: Any) -> None:
    uris = [f"file:///{number:04d}" + "x" * 1000 for number in range(5000)]
    images = job_pb2.ImageSource(uris=job_pb2.ImageUris(uris=uris))
    job = job_pb2.Job(infer=job_pb2.InferSpec(checkpoint="uploads/x", images=images))
    with pytest.raises(MeshError, match="Upload the images as a zip") as caught:
        await mesh.create(job)
    assert caught.value.reason == Reason.MESSAGE_TOO_LARGE
    assert caught.value.violations[0].field == "job"


async def test_more_images_than_a_runner_can_be_told_of_are_refused(
    mesh: Any, dataset: Any, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.inputs.MAX_IMAGE_LIST_BYTES", 500)
    with pytest.raises(MeshError, match="Make several jobs") as caught:
        await mesh.create(await infer(mesh, framework, dataset.name))
    assert caught.value.reason == Reason.MESSAGE_TOO_LARGE
    assert caught.value.violations[0].field == "job.infer.images"


async def test_a_list_that_has_grown_too_long_since_fails_its_job_and_not_the_runners_stream(
    mesh: Any, dataset: Any, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await mesh.create(await infer(mesh, framework, dataset.name))).name
    monkeypatch.setattr("scheduler.inputs.MAX_IMAGE_LIST_BYTES", 500)
    async with mesh.runner(framework) as runner:
        job = await mesh.until_state(name, "FAILED")
        assert reason_of(job.error) == Reason.MESSAGE_TOO_LARGE
        await runner.beat()
        assert runner.assignments.empty()


async def test_the_limits_agree() -> None:
    """What is stored can be sent, and what may be asked for is taken."""
    assert started().ByteSize() < MAX_ITEM_BYTES < 4 * MIB < MAX_REQUEST_BYTES < MAX_RECEIVED_BYTES
