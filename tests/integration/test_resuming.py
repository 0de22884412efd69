"""What the next attempt is given: a training's last resumable checkpoint, an inference's place."""

import hashlib
from collections.abc import Callable

import pytest
from google.rpc import status_pb2
from live_scheduler import Mesh
from runner_double import RunnerDouble, ended, epoch

from visionmesh.errors import NotFound
from visionmesh.v1 import dataset_pb2, job_pb2, result_pb2, runner_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeTrain = Callable[..., job_pb2.Job]
HANDED_BACK = {
    "lost": ended("FAILED", "INFRASTRUCTURE", "the disk is full"),
    "drained": ended("RELEASED", "DRAINED"),
    "preempted": ended("RELEASED", "PREEMPTED"),
}


async def leave(runner: RunnerDouble, assignment: runner_pb2.Assignment, name: str, data: bytes) -> None:
    """Store and publish a checkpoint of an attempt."""
    job, attempt = assignment.job.name, assignment.attempt
    resumable = str(name == "last").lower()
    artifact = result_pb2.Artifact(
        name=f"{job}/artifacts/{name}",
        kind=result_pb2.ARTIFACT_KIND_CHECKPOINT,
        uri=await runner.store(job, attempt, f"{name}.pt", data),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        metadata={"resumable": resumable},
    )
    stream = await runner.results(job, attempt)
    await stream.send(result_pb2.ResultItem(artifact=artifact))
    stream.close()


def quick(job: job_pb2.Job) -> job_pb2.Job:
    """The same, tried again at once."""
    job.retry_policy.max_attempts = 3
    job.retry_policy.initial_backoff.FromMilliseconds(1)
    return job


@pytest.mark.parametrize("how", HANDED_BACK)
async def test_the_next_attempt_resumes_from_what_was_uploaded(
    mesh: Mesh, a_train: MakeTrain, framework: str, how: str
) -> None:
    job = await mesh.create(quick(a_train()))
    async with mesh.runner(framework) as runner:
        first, progress = await runner.start()
        assert not first.resume
        await leave(runner, first, "last", b"epoch 1")
        await leave(runner, first, "best", b"stripped")
        await leave(runner, first, "last", b"epoch 2")
        await progress.send(epoch(1), epoch(2), ended("FAILED", "INFRASTRUCTURE", results_number=3))
        second, progress = await runner.start()
        assert (second.attempt, second.resume) == (2, True)
        found = await runner.fetch(second.job.name, 2, second.checkpoint.uri)
        assert found == {"last.pt": b"epoch 2"}
        assert not second.HasField("start_checkpoint")
        await progress.send(HANDED_BACK[how])
        third, progress = await runner.start()
        assert (third.attempt, third.resume, third.checkpoint) == (3, True, second.checkpoint)
        await leave(runner, third, "last", b"epoch 3")
        await progress.send(epoch(3), ended(results_number=1))
    published = mesh.folder / "artifacts" / "checkpoints" / job.name.removeprefix("jobs/")
    found = {path.name: path.read_bytes() for path in published.iterdir()}
    assert found == {"best.pt": b"stripped", "last.pt": b"epoch 3"}


async def test_without_a_resumable_checkpoint_it_starts_anew(
    mesh: Mesh, a_train: MakeTrain, framework: str
) -> None:
    await mesh.create(quick(a_train()))
    async with mesh.runner(framework) as runner:
        first, progress = await runner.start()
        await leave(runner, first, "best", b"stripped")
        await progress.send(epoch(1), ended("FAILED", "INFRASTRUCTURE", results_number=1))
        second, progress = await runner.start()
        assert (second.attempt, second.resume) == (2, False)
        assert not second.HasField("checkpoint")
        await progress.send(ended())


async def test_the_weights_that_the_job_names_come_along(
    mesh: Mesh, a_train: MakeTrain, framework: str
) -> None:
    named = await mesh.upload("weights.pt", b"pretrained")
    job = quick(a_train())
    job.train.checkpoint = named.name
    await mesh.create(job)
    async with mesh.runner(framework) as runner:
        first, progress = await runner.start()
        assert not first.HasField("start_checkpoint")
        assert first.checkpoint.sha256 == named.sha256
        await leave(runner, first, "last", b"epoch 1")
        await progress.send(epoch(1), ended("RELEASED", "DRAINED", results_number=1))
        second, progress = await runner.start()
        assert second.resume
        assert second.start_checkpoint == first.checkpoint
        uris = (second.checkpoint.uri, second.start_checkpoint.uri)
        found = await runner.fetch(second.job.name, 2, *uris)
        assert sorted(found.values()) == [b"epoch 1", b"pretrained"]
        await progress.send(ended())


@pytest.mark.parametrize("first_left", [4, 6], ids=["a part", "nothing"])
async def test_totals_are_those_of_all_attempts_whatever_was_left_to_do(
    mesh: Mesh, framework: str, dataset: dataset_pb2.Dataset, first_left: int
) -> None:
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name, split="train"))
    weights = await mesh.upload("weights.pt", b"weights")
    spec = job_pb2.EmbedFacesSpec(embedding_checkpoint=weights.name)
    spec.detection.images.CopyFrom(images)
    created = await mesh.create(quick(job_pb2.Job(framework=framework, embed_faces=spec)))
    async with mesh.runner(framework) as runner:
        first, progress = await runner.start()
        stream = await runner.results(created.name, 1)
        predictions = [_faces(index) for index in range(len(first.images))]
        predictions[1] = result_pb2.ImagePrediction(index=1, error=status_pb2.Status(code=3))
        done = [result_pb2.ResultItem(prediction=each) for each in predictions[:first_left]]
        await stream.send(*done)
        stream.close()
        await progress.send(ended("FAILED", "INFRASTRUCTURE", results_number=len(done)))
        _, progress = await runner.start()
        stream = await runner.results(created.name, 2)
        rest = [result_pb2.ResultItem(prediction=each) for each in predictions[first_left:]]
        own = result_pb2.InferenceResult(total_images=len(rest))
        await stream.send(*rest, result_pb2.ResultItem(inference=own))  # in one message
        await progress.send(ended(results_number=len(rest) + 1))
    totals = (await mesh.client.job(created.name).result()).inference
    count = len(predictions)
    assert (totals.total_images, totals.failed_images) == (count, 1)
    assert totals.total_inference_time_ms == pytest.approx(2.0 * (count - 1))
    assert totals.avg_inference_time_ms == pytest.approx(2.0)
    assert totals.detections_per_class == {"face": 2 * (count - 1)}
    assert totals.embedding_dimension == 512


async def test_what_a_job_that_failed_had_predicted_is_added_up(
    mesh: Mesh, framework: str, dataset: dataset_pb2.Dataset
) -> None:
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name, split="train"))
    weights = await mesh.upload("weights.pt", b"weights")
    spec = job_pb2.InferSpec(images=images, checkpoint=weights.name)
    created = await mesh.create(job_pb2.Job(framework=framework, infer=spec))
    handle = mesh.client.job(created.name)
    async with mesh.runner(framework) as runner:
        _, progress = await runner.start()
        stream = await runner.results(created.name, 1)
        await stream.send(*(result_pb2.ResultItem(prediction=_faces(index)) for index in range(2)))
        with pytest.raises(NotFound, match="no result yet"):
            await handle.result()
        await progress.send(ended("FAILED", "USER_ERROR", "bad weights", results_number=2))
        await mesh.until_state(created.name, "FAILED")
    result = await handle.result()
    assert (result.partial, result.attempt, result.inference.total_images) == (True, 1, 2)


def _faces(index: int) -> result_pb2.ImagePrediction:
    """Two faces, whose vectors are in the store only."""
    faces = [result_pb2.Face(face_index=n, embedding=result_pb2.Embedding(dimension=512)) for n in range(2)]
    timings = result_pb2.Timings(inference_ms=2)
    return result_pb2.ImagePrediction(index=index, width=32, height=32, faces=faces, timings=timings)
