"""Bad input is refused with what, why and what to do: code, reason, field and message, over real gRPC."""

import asyncio
import io
import math
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from PIL import Image
from runner_double import RunnerDouble, ended, refusal

from visionmesh.errors import DOMAIN, MeshError, Reason
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD, GONE, WRONG_STATE, TAKEN = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
)


@dataclass(frozen=True)
class World:
    """What the requests of the table speak of."""

    mesh: Any
    dataset: str
    unlabelled: str
    running: str
    finished: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mesh: Any, dataset: dataset_pb2.Dataset) -> AsyncIterator[World]:
    """A known framework, a dataset without labels, a job that runs and one that has succeeded."""
    upload = await mesh.upload("plain.zip", archive({"data.yaml": "names: [a]", "images/train/0.jpg": picture()}))
    unlabelled = await create_dataset(mesh, upload=upload.name)
    async with mesh.runner("ultralytics") as runner:
        finished = await mesh.create(train(dataset.name))
        await runner.run()
        running = await mesh.create(train(dataset.name))
        _assignment, stream = await runner.start()
        yield World(mesh, dataset.name, unlabelled.name, running.name, finished.name)
        await stream.send(ended())


def archive(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as opened:
        for name, data in files.items():
            opened.writestr(zipfile.ZipInfo(name), data, compression)
    return packed.getvalue()


def picture(kind: str = "JPEG", size: tuple[int, int] = (16, 16)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size).save(written, kind)
    return written.getvalue()


async def create_dataset(mesh: Any, **fields: Any) -> dataset_pb2.Dataset:
    return await mesh.call(mesh.datasets.CreateDataset, dataset_pb2.CreateDatasetRequest(**fields))


def train(dataset: str, **fields: Any) -> job_pb2.Job:
    spec = {"model": "yolo11n", "dataset": dataset} | fields
    return job_pb2.Job(train=job_pb2.TrainSpec(**spec))


def infer(checkpoint: str, dataset: str) -> job_pb2.Job:
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset))
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images))


def settings(**values: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    for name, value in values.items():
        made[name] = value
    return made


Ask = Callable[[World], Awaitable[Any]]


def job(make: Callable[[World], job_pb2.Job]) -> Ask:
    """CreateJob with what `make` makes."""
    return lambda world: world.mesh.create(make(world))


def rpc(service: str, method: str, make: Callable[[World], Any]) -> Ask:
    """A unary call."""
    return lambda world: world.mesh.call(getattr(getattr(world.mesh, service), method), make(world))


def of_dataset(files: dict[str, str]) -> Ask:
    """Upload an archive of these files and make a dataset of it."""

    async def ask(world: World) -> None:
        upload = await world.mesh.upload("set.zip", archive(files))
        await create_dataset(world.mesh, upload=upload.name)

    return ask


def of_archive(data: bytes) -> Ask:
    """Upload these bytes and make a dataset of them."""

    async def ask(world: World) -> None:
        upload = await world.mesh.upload("set.zip", data)
        await create_dataset(world.mesh, upload=upload.name)

    return ask


def labelled(label: str, names: str = "names: [circle, square]") -> dict[str, str]:
    return {"data.yaml": names, "images/train/0.jpg": picture(), "labels/train/0.txt": label}


def corrupt_deflate() -> bytes:
    data = bytearray(archive({"images/train/0.jpg": "some text that is compressed " * 40}))
    start = data.index(b"0.jpg") + len(b"0.jpg")
    data[start : start + 10] = b"\xff" * 10
    return bytes(data)


def lists(method: str, **fields: Any) -> Ask:
    return rpc("jobs", method, lambda _: getattr(job_pb2, f"{method}Request")(**fields))


async def watch_of_absent(world: World) -> None:
    request = progress_pb2.WatchProgressRequest(job="jobs/absent")
    try:
        async for _ in world.mesh.progress.WatchProgress(request):
            pass
    except grpc.aio.AioRpcError as error:
        raise refusal(error) from None


NEAREST = "Did you mean"
LATE_JOB = job_pb2.Job(run_timeout=Duration(seconds=-1), train=job_pb2.TrainSpec(dataset="datasets/x"))

# what is asked, code, reason, field, part of the message
TABLE: dict[str, tuple[Ask, grpc.StatusCode, Reason, str, str]] = {
    "unknown model": (
        job(lambda w: train(w.dataset, model="yolo11nn")),
        BAD, Reason.UNKNOWN_MODEL, "job.train.model", f"{NEAREST} 'yolo11n'",
    ),
    "neither model nor checkpoint": (
        job(lambda w: train(w.dataset, model="")),
        BAD, Reason.UNKNOWN_MODEL, "job.train.model", "name a model",
    ),
    "task of another model": (
        job(lambda w: train(w.dataset, task=vision_pb2.TASK_POSE)),
        BAD, Reason.UNSUPPORTED, "job.train.task", "detect, not pose",
    ),
    "kind that the framework does not run": (
        job(lambda w: job_pb2.Job(embed=job_pb2.EmbedSpec(images=infer("x", w.dataset).infer.images))),
        BAD, Reason.UNSUPPORTED, "job.embed", "train, validate, infer",
    ),
    "absent dataset": (
        job(lambda w: train("datasets/nowhere")),
        BAD, Reason.DATASET_NOT_FOUND, "job.train.dataset", "'datasets/nowhere'",
    ),
    "malformed dataset name": (
        job(lambda w: train("nowhere")),
        BAD, Reason.INVALID_ARGUMENT, "job.train.dataset", "datasets/{dataset}",
    ),
    "dataset without labels": (
        job(lambda w: train(w.unlabelled)),
        BAD, Reason.DATASET_UNLABELLED, "job.train.dataset", "labels/train/",
    ),
    "validation on a split without labels": (
        job(lambda w: job_pb2.Job(validate=job_pb2.ValidateSpec(
            dataset=w.dataset, split="extra", checkpoint=f"{w.running}/artifacts/best"))),
        BAD, Reason.DATASET_UNLABELLED, "job.validate.dataset", "'extra'",
    ),
    "epochs 0": (
        job(lambda w: train(w.dataset, epochs=0)),
        BAD, Reason.INVALID_ARGUMENT, "job.train.epochs", "got 0",
    ),
    "priority 11": (
        job(lambda w: job_pb2.Job(priority=11, train=train(w.dataset).train)),
        BAD, Reason.INVALID_ARGUMENT, "job.priority", "got 11",
    ),
    "negative timeout": (
        job(lambda w: LATE_JOB),
        BAD, Reason.INVALID_ARGUMENT, "job.run_timeout", "greater than",
    ),
    "NaN for a learning rate": (
        job(lambda w: train(w.dataset, learning_rate=math.nan)),
        BAD, Reason.INVALID_ARGUMENT, "job.train.learning_rate", "got nan",
    ),
    "label key in capitals": (
        job(lambda w: job_pb2.Job(labels={"Team": "x"}, train=train(w.dataset).train)),
        BAD, Reason.INVALID_ARGUMENT, 'job.labels["Team"]', "Team",
    ),
    "unknown hyperparameter": (
        job(lambda w: train(w.dataset, hyperparameters=settings(mosaik=1))),
        BAD, Reason.UNKNOWN_HYPERPARAMETER, "job.train.hyperparameters.mosaik", f"{NEAREST} 'mosaic'",
    ),
    "hyperparameter of another kind of job": (
        job(lambda w: train(w.dataset, hyperparameters=settings(agnostic_nms=True))),
        BAD, Reason.UNKNOWN_HYPERPARAMETER, "job.train.hyperparameters.agnostic_nms", "no hyperparameter",
    ),
    "hyperparameter out of range": (
        job(lambda w: train(w.dataset, hyperparameters=settings(lr0=1.5))),
        BAD, Reason.BAD_HYPERPARAMETER, "job.train.hyperparameters.lr0", "at most 1, got 1.5",
    ),
    "hyperparameter NaN": (
        job(lambda w: train(w.dataset, hyperparameters=settings(lr0=math.nan))),
        BAD, Reason.BAD_HYPERPARAMETER, "job.train.hyperparameters.lr0", "finite",
    ),
    "hyperparameter of the wrong type": (
        job(lambda w: train(w.dataset, hyperparameters=settings(lr0="much"))),
        BAD, Reason.BAD_HYPERPARAMETER, "job.train.hyperparameters.lr0", "must be a number",
    ),
    "part of a whole number": (
        job(lambda w: train(w.dataset, hyperparameters=settings(nbs=1.5))),
        BAD, Reason.BAD_HYPERPARAMETER, "job.train.hyperparameters.nbs", "whole number",
    ),
    "choice that is none": (
        job(lambda w: train(w.dataset, hyperparameters=settings(amp="fp8"))),
        BAD, Reason.BAD_HYPERPARAMETER, "job.train.hyperparameters.amp", "fp32, bf16",
    ),
    "no spec": (
        job(lambda w: job_pb2.Job(display_name="nothing to do")),
        BAD, Reason.INVALID_ARGUMENT, "job.spec", "exactly one of train, validate, infer",
    ),
    "no job": (
        rpc("jobs", "CreateJob", lambda w: job_pb2.CreateJobRequest()),
        BAD, Reason.INVALID_ARGUMENT, "job", "required",
    ),
    "dependency that does not exist": (
        job(lambda w: job_pb2.Job(depends_on=["jobs/absent"], train=train(w.dataset).train)),
        BAD, Reason.DEPENDENCY_NOT_FOUND, "job.depends_on", "'jobs/absent'",
    ),
    "checkpoint of an absent job": (
        job(lambda w: infer("jobs/absent/artifacts/best", w.dataset)),
        BAD, Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "'jobs/absent'",
    ),
    "artifact that a finished job does not have": (
        job(lambda w: infer(f"{w.finished}/artifacts/best", w.dataset)),
        BAD, Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "has no artifact 'best'",
    ),
    "artifact that a running job will never have": (
        job(lambda w: infer(f"{w.running}/artifacts/worst", w.dataset)),
        BAD, Reason.CHECKPOINT_NOT_FOUND, "job.infer.checkpoint", "'best' and 'last'",
    ),
    "absent upload": (
        job(lambda w: infer("uploads/absent", w.dataset)),
        BAD, Reason.NOT_FOUND, "job.infer.checkpoint", "Upload the file first",
    ),
    "file of the scheduler's machine": (
        job(lambda w: infer("file:///etc/passwd", w.dataset)),
        BAD, Reason.BAD_URI, "job.infer.checkpoint", "configured stores",
    ),
    "foreign store": (
        job(lambda w: infer("https://example.com/best.pt", w.dataset)),
        BAD, Reason.BAD_URI, "job.infer.checkpoint", "Upload the file",
    ),
    "URI that leads out of the store": (
        job(lambda w: infer(f"file://{w.mesh.folder}/artifacts/../visionmesh.db", w.dataset)),
        BAD, Reason.BAD_URI, "job.infer.checkpoint", "'..'",
    ),
    "URI that leads out of the store, escaped": (
        job(lambda w: infer(f"file://{w.mesh.folder}/artifacts/%2e%2e/visionmesh.db", w.dataset)),
        BAD, Reason.BAD_URI, "job.infer.checkpoint", "'..'",
    ),
    "URI of what the store keeps for itself": (
        job(lambda w: infer(f"file://{w.mesh.folder}/artifacts/.digests/x", w.dataset)),
        BAD, Reason.BAD_URI, "job.infer.checkpoint", "keeps for itself",
    ),
    "images that are not there": (
        job(lambda w: job_pb2.Job(infer=job_pb2.InferSpec(
            checkpoint=f"{w.running}/artifacts/best",
            images=job_pb2.ImageSource(
                uris=job_pb2.ImageUris(uris=[f"file://{w.mesh.folder}/datasets/none/"]))))),
        BAD, Reason.IMAGES_NOT_FOUND, "job.infer.images.uris.uris", "no image at",
    ),
    "split that the dataset does not have": (
        job(lambda w: job_pb2.Job(infer=job_pb2.InferSpec(
            checkpoint=f"{w.running}/artifacts/best",
            images=job_pb2.ImageSource(
                dataset_images=job_pb2.DatasetImages(dataset=w.dataset, split="extra"))))),
        BAD, Reason.IMAGES_NOT_FOUND, "job.infer.images.dataset_images.split", "train, val, test",
    ),
    "images of a media store": (
        job(lambda w: job_pb2.Job(infer=job_pb2.InferSpec(
            checkpoint=f"{w.running}/artifacts/best",
            images=job_pb2.ImageSource(media_store=job_pb2.MediaStoreImages(ids=["1"]))))),
        BAD, Reason.UNSUPPORTED, "job.infer.images.media_store", "no media store",
    ),
    "cancel of a finished job": (
        rpc("jobs", "CancelJob", lambda w: job_pb2.CancelJobRequest(name=w.finished)),
        WRONG_STATE, Reason.JOB_ALREADY_ENDED, "", "SUCCEEDED already",
    ),
    "retry of a running job": (
        rpc("jobs", "RetryJob", lambda w: job_pb2.RetryJobRequest(name=w.running)),
        WRONG_STATE, Reason.JOB_NOT_ENDED, "", "Cancel it first",
    ),
    "delete of a running job": (
        rpc("jobs", "DeleteJob", lambda w: job_pb2.DeleteJobRequest(name=w.running)),
        WRONG_STATE, Reason.JOB_NOT_ENDED, "", "Cancel it first",
    ),
    "delete of a dataset in use": (
        rpc("datasets", "DeleteDataset", lambda w: dataset_pb2.DeleteDatasetRequest(name=w.dataset)),
        WRONG_STATE, Reason.DATASET_IN_USE, "", "is used by jobs/",
    ),
    "absent job": (lists("GetJob", name="jobs/absent"), GONE, Reason.NOT_FOUND, "", "'jobs/absent'"),
    "cancel of an absent job": (
        lists("CancelJob", name="jobs/absent"), GONE, Reason.NOT_FOUND, "", "'jobs/absent'",
    ),
    "delete of an absent job": (
        lists("DeleteJob", name="jobs/absent"), GONE, Reason.NOT_FOUND, "", "'jobs/absent'",
    ),
    "history of an absent job": (
        lists("ListJobEvents", parent="jobs/absent"), GONE, Reason.NOT_FOUND, "", "'jobs/absent'",
    ),
    "explanation of an absent job": (
        lists("ExplainJob", name="jobs/absent"), GONE, Reason.NOT_FOUND, "", "'jobs/absent'",
    ),
    "watch of an absent job": (watch_of_absent, GONE, Reason.NOT_FOUND, "", "'jobs/absent'"),
    "result that is not there yet": (
        rpc("results", "GetResult", lambda w: result_pb2.GetResultRequest(name=f"{w.running}/result")),
        GONE, Reason.NOT_FOUND, "", "no result yet",
    ),
    "absent runner": (
        rpc("runners", "DrainRunner", lambda w: runner_pb2.DrainRunnerRequest(name="runners/absent")),
        GONE, Reason.NOT_FOUND, "", "'runners/absent'",
    ),
    "absent dataset by name": (
        rpc("datasets", "GetDataset", lambda w: dataset_pb2.GetDatasetRequest(name="datasets/absent")),
        GONE, Reason.NOT_FOUND, "", "'datasets/absent'",
    ),
    "malformed job name": (
        lists("GetJob", name="job/1"), BAD, Reason.INVALID_ARGUMENT, "name", "jobs/{job}",
    ),
    "page size -1": (
        lists("ListJobs", page_size=-1), BAD, Reason.INVALID_ARGUMENT, "page_size", "got -1",
    ),
    "page token of nobody": (
        lists("ListJobs", page_token="!"), BAD, Reason.BAD_PAGE_TOKEN, "page_token", "Start again without it",
    ),
    "filter by an unknown field": (
        lists("ListJobs", filter="colour = red"), BAD, Reason.BAD_FILTER, "filter", "no field 'colour'",
    ),
    "filter by an unknown state": (
        lists("ListJobs", filter="state = DONE"), BAD, Reason.BAD_FILTER, "filter", "PENDING, QUEUED",
    ),
    "filter that breaks off": (
        lists("ListJobs", filter="state = QUEUED AND"), BAD, Reason.BAD_FILTER, "filter", "character 19",
    ),
    "filter without AND": (
        lists("ListJobs", filter="kind = train priority = 5"), BAD, Reason.BAD_FILTER, "filter", "AND",
    ),
    "order by an unknown field": (
        lists("ListJobs", order_by="colour"), BAD, Reason.BAD_FILTER, "order_by", "create_time, update_time",
    ),
    "absent upload as a dataset": (
        rpc("datasets", "CreateDataset", lambda w: dataset_pb2.CreateDatasetRequest(upload="uploads/no")),
        BAD, Reason.NOT_FOUND, "upload", "'uploads/no'",
    ),
    "archive that is none": (
        of_archive(b"this is no zip"), BAD, Reason.BAD_ARCHIVE, "upload", "Pack it again",
    ),
    "archive that leads out": (
        of_dataset({"../../escape.txt": "x"}), BAD, Reason.BAD_ARCHIVE, "upload", "leads out",
    ),
    "archive with damaged bytes": (
        of_archive(corrupt_deflate()), BAD, Reason.BAD_ARCHIVE, "upload", "Pack it again",
    ),
    "archive with a line break in a name": (
        of_dataset({"images/train/a\nb.jpg": "x"}), BAD, Reason.BAD_ARCHIVE, "upload", "control character",
    ),
    "class that does not exist": (
        of_dataset(labelled("0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n")),
        BAD, Reason.DATASET_INVALID, "labels/train/0.txt:2", "class 7 does not exist",
    ),
    "box in pixels": (
        of_dataset(labelled("0 120 .5 .1 .1")),
        BAD, Reason.DATASET_INVALID, "labels/train/0.txt:1", "(pixels?)",
    ),
    "label line that is too short": (
        of_dataset(labelled("\n0 .5 .5")),
        BAD, Reason.DATASET_INVALID, "labels/train/0.txt:2", "got 3 fields",
    ),
    "label without its image": (
        of_dataset(labelled("") | {"labels/train/9.txt": ""}),
        BAD, Reason.DATASET_INVALID, "labels/train/9.txt", "no image",
    ),
    "class names that are not numbered": (
        of_dataset(labelled("", "names: {0: a, b: c}")),
        BAD, Reason.DATASET_INVALID, "data.yaml", "without a gap",
    ),
    "no class names": (
        of_dataset({"images/train/0.jpg": picture()}), BAD, Reason.DATASET_INVALID, "data.yaml", "names:",
    ),
    "no images": (
        of_dataset({"data.yaml": "names: [a]"}), BAD, Reason.DATASET_INVALID, "images", "images/train",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "code", "reason", "field", "part"), TABLE.values(), ids=TABLE.keys())
async def test_bad_input_is_refused(
    world: World, ask: Ask, code: grpc.StatusCode, reason: Reason, field: str, part: str
) -> None:
    with pytest.raises(MeshError) as caught:
        await ask(world)
    error = caught.value
    assert (error.code, error.reason) == (code, reason), error.message
    assert part in error.message
    if field:
        assert field in [violation.field for violation in error.violations]


UNARY = [
    "JobService/CreateJob",
    "JobService/ListJobs",
    "ProgressService/ListMetrics",
    "ResultService/GetResult",
    "RunnerService/GetRunner",
    "DatasetService/CreateDataset",
]


@pytest.mark.parametrize("method", UNARY)
async def test_bytes_that_cannot_be_decoded_are_the_callers_mistake(world: World, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.mesh.channel.unary_unary(f"/visionmesh.v1.{method}")(b"\xff\xff\xff")
    error = refusal(caught.value)
    assert (error.code, error.reason) == (BAD, Reason.INVALID_ARGUMENT)
    assert "cannot be decoded" in error.message


async def test_undecodable_bytes_on_a_stream_are_the_callers_mistake(world: World) -> None:
    async def garbage() -> AsyncIterator[bytes]:
        yield b"\xff\xff\xff"

    call = world.mesh.channel.stream_stream("/visionmesh.v1.ProgressService/ReportProgress")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call(garbage()):
            pass
    assert refusal(caught.value).code is BAD


async def test_an_unknown_method_is_unimplemented(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.mesh.channel.unary_unary("/visionmesh.v1.JobService/Explode")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_every_refusal_names_the_mesh_as_its_domain(world: World) -> None:
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.mesh.jobs.GetJob(job_pb2.GetJobRequest(name="jobs/absent"))
    status = rpc_status.from_call(caught.value)
    info, resource = error_details_pb2.ErrorInfo(), error_details_pb2.ResourceInfo()
    assert [detail.Unpack(info) for detail in status.details].count(True) == 1
    assert info.domain == DOMAIN
    assert any(detail.Unpack(resource) for detail in status.details)
    assert resource.resource_name == "jobs/absent"


async def test_a_page_token_is_bound_to_its_query(world: World) -> None:
    request = job_pb2.ListJobsRequest(page_size=1, filter="kind = train")
    page = await world.mesh.call(world.mesh.jobs.ListJobs, request)
    assert page.next_page_token
    other = job_pb2.ListJobsRequest(page_token=page.next_page_token)
    with pytest.raises(MeshError, match="another filter") as caught:
        await world.mesh.call(world.mesh.jobs.ListJobs, other)
    assert caught.value.reason == Reason.BAD_PAGE_TOKEN


async def test_a_forged_page_token_is_refused(world: World) -> None:
    from scheduler.services import pages

    forged = pages.encode("\n", [2**62, "x"])
    request = job_pb2.ListJobsRequest(page_token=forged)
    with pytest.raises(MeshError) as caught:
        await world.mesh.call(world.mesh.jobs.ListJobs, request)
    assert caught.value.reason == Reason.BAD_PAGE_TOKEN


async def test_the_same_request_id_gives_the_same_job(world: World) -> None:
    wanted = train(world.dataset)
    first = await world.mesh.create(wanted, request_id="again")
    second = await world.mesh.create(wanted, request_id="again")
    assert first.name == second.name


async def test_many_at_once_with_one_request_id_make_one_job(world: World) -> None:
    calls = [world.mesh.create(train(world.dataset), request_id="at-once") for _ in range(8)]
    assert len({job.name for job in await asyncio.gather(*calls)}) == 1


async def test_the_same_request_id_with_other_content_is_refused(world: World) -> None:
    made = await world.mesh.create(train(world.dataset), request_id="other")
    with pytest.raises(MeshError) as caught:
        await world.mesh.create(train(world.dataset, epochs=2), request_id="other")
    assert (caught.value.code, caught.value.reason) == (TAKEN, Reason.REQUEST_ID_REUSED)
    assert caught.value.metadata["resource"] == made.name


async def test_validate_only_stores_nothing(world: World) -> None:
    async def names() -> list[str]:
        return [job.name async for job in world.mesh.client.list_jobs()]

    before = await names()
    checked = await world.mesh.create(train(world.dataset), validate_only=True, request_id="dry")
    assert checked.name == ""
    assert checked.train.epochs == 100
    assert checked.state == vision_pb2.JOB_STATE_QUEUED
    assert await names() == before
    with pytest.raises(MeshError):
        await world.mesh.create(train("datasets/nowhere"), validate_only=True)
    after = job_pb2.Job(depends_on=[world.finished], train=checked.train)
    assert (await world.mesh.create(after, validate_only=True)).state == vision_pb2.JOB_STATE_QUEUED
    after.depends_on[:] = [world.running]
    assert (await world.mesh.create(after, validate_only=True)).state == vision_pb2.JOB_STATE_PENDING
    created = await world.mesh.create(train(world.dataset, epochs=2), request_id="dry")
    assert created.name  # the dry run has not used the request_id up


async def test_validate_only_refuses_what_creating_would_refuse(world: World) -> None:
    stopped = await world.mesh.create(train(world.dataset))
    await world.mesh.call(world.mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=stopped.name))
    with pytest.raises(MeshError, match="will not succeed") as caught:
        await world.mesh.create(
            job_pb2.Job(depends_on=[stopped.name], train=stopped.train), validate_only=True
        )
    assert caught.value.reason == Reason.DEPENDENCY_FAILED


async def test_a_runner_that_does_not_register_first_is_refused(world: World) -> None:
    call = world.mesh.runners.Connect()
    await call.write(runner_pb2.ConnectRequest(heartbeat=runner_pb2.Heartbeat()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert refusal(caught.value).violations[0].field == "register"


async def test_a_runner_without_capacity_is_refused(world: World) -> None:
    call = world.mesh.runners.Connect()
    await call.write(runner_pb2.ConnectRequest(register=runner_pb2.Register(runner_id="Bad Id")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    fields = {violation.field for violation in refusal(caught.value).violations}
    assert {"register.runner_id", "register.incarnation", "register.capacity"} <= fields


MALFORMED = runner_pb2.AttemptRef(job="no-job", attempt=1)


@pytest.mark.parametrize(
    "request_",
    [
        runner_pb2.ConnectRequest(heartbeat=runner_pb2.Heartbeat(attempts=[MALFORMED])),
        runner_pb2.ConnectRequest(
            assignment_reply=runner_pb2.AssignmentReply(job="no-job", attempt=1, accepted=True)
        ),
    ],
    ids=["heartbeat", "assignment_reply"],
)
async def test_an_attempt_of_no_job_is_the_runners_mistake(
    world: World, request_: runner_pb2.ConnectRequest
) -> None:
    async with world.mesh.runner("malformed") as runner:
        await runner.say(request_)
        error = await runner.ended_with()
    assert (error.code, error.reason) == (BAD, Reason.INVALID_ARGUMENT)
    assert "jobs/{job}" in error.message


@pytest.mark.parametrize("path", ["../escape.pt", "a/../../b", "x" * 300])
async def test_a_file_outside_its_attempt_is_not_stored(world: World, path: str) -> None:
    runner = RunnerDouble(world.mesh.address, "files", "ultralytics")
    try:
        with pytest.raises(MeshError) as caught:
            await runner.store(world.running, 1, path, b"data")
        assert (caught.value.code, caught.value.reason) == (BAD, Reason.BAD_URI)
    finally:
        await runner.vanish()


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "file://{folder}/artifacts/../visionmesh.db"])
async def test_an_artifact_that_lies_elsewhere_is_not_published(world: World, uri: str) -> None:
    runner = RunnerDouble(world.mesh.address, "files", "ultralytics")
    artifact = result_pb2.Artifact(
        name=f"{world.running}/artifacts/best",
        uri=uri.format(folder=world.mesh.folder),
        sha256="0" * 64,
    )
    try:
        stream = await runner.results(world.running, 1)
        with pytest.raises(MeshError) as caught:
            await stream.send(result_pb2.ResultItem(artifact=artifact))
        assert (caught.value.code, caught.value.reason) == (BAD, Reason.BAD_URI)
    finally:
        await runner.vanish()
