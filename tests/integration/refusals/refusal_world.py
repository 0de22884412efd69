"""The words in which the tables of refusals are written: what is asked of which mesh, and what it answers."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf import struct_pb2
from PIL import Image
from runner_double import PATIENCE, RunnerDouble, ended, refusal

from visionmesh.errors import Reason
from visionmesh.v1 import dataset_pb2, dataset_pb2_grpc, job_pb2, progress_pb2, result_pb2


@dataclass(frozen=True)
class World:
    """What the requests of the tables speak of."""

    mesh: Any
    dataset: str
    unlabelled: str
    pictures: str
    """A dataset of class folders."""
    running: str
    """A training whose first attempt runs."""
    finished: str
    """A training that has succeeded, with an artifact `notes`."""
    double: RunnerDouble
    """A runner that is not connected, to call the runners' RPCs with."""


@asynccontextmanager
async def fill(mesh: Any, dataset: str) -> AsyncIterator[World]:
    """Make a dataset without labels, one of class folders, a job that runs, and one that has succeeded."""
    double = RunnerDouble(mesh.address, "double", "ultralytics")
    upload = await mesh.upload(
        "plain.zip", archive({"data.yaml": "names: [a]", "images/train/0.jpg": picture()})
    )
    unlabelled = await mesh.call(
        mesh.datasets.CreateDataset, dataset_pb2.CreateDatasetRequest(upload=upload.name)
    )
    classes = {f"{split}/{name}/0.jpg": picture() for split in ("train", "val") for name in "ab"}
    upload = await mesh.upload("classes.zip", archive(classes))
    pictures = await mesh.call(
        mesh.datasets.CreateDataset, dataset_pb2.CreateDatasetRequest(upload=upload.name)
    )
    async with mesh.runner("ultralytics") as runner:
        finished = await mesh.create(train(dataset))
        await _finish(runner)
        running = await mesh.create(train(dataset))
        _assignment, stream = await runner.start()
        yield World(mesh, dataset, unlabelled.name, pictures.name, running.name, finished.name, double)
        await stream.send(ended())
    await double.vanish()


async def _finish(runner: RunnerDouble) -> None:
    assignment, progress = await runner.start()
    job = assignment.job.name
    uri = await runner.store(job, 1, "notes.txt", b"0123456789")
    results = await runner.results(job, 1)
    notes = result_pb2.Artifact(
        name=f"{job}/artifacts/notes",
        uri=uri,
        size_bytes=10,
        sha256=hashlib.sha256(b"0123456789").hexdigest(),
    )
    await results.send(result_pb2.ResultItem(artifact=notes))
    await progress.send(ended(results_number=1))
    runner.holds.clear()


Ask = Callable[[World], Awaitable[Any]]


@dataclass(frozen=True)
class Row:
    """One refusal."""

    ask: Ask
    """Asks for it. Raises MeshError."""
    code: grpc.StatusCode
    reason: Reason
    field: str
    """What BadRequest names; empty if nothing."""
    what: str
    """Part of the message: what is wrong."""
    instead: str
    """Part of the message: what would be right, or what to do next."""


Table = dict[str, Row]


def row(code: grpc.StatusCode) -> Callable[[Ask, Reason, str, str, str], Row]:
    """Rows of one code."""
    return lambda ask, reason, field, what, instead: Row(ask, code, reason, field, what, instead)


bad = row(grpc.StatusCode.INVALID_ARGUMENT)
wrong_state = row(grpc.StatusCode.FAILED_PRECONDITION)
taken = row(grpc.StatusCode.ALREADY_EXISTS)
too_much = row(grpc.StatusCode.RESOURCE_EXHAUSTED)
aborted = row(grpc.StatusCode.ABORTED)
past = row(grpc.StatusCode.OUT_OF_RANGE)
damaged = row(grpc.StatusCode.DATA_LOSS)
denied = row(grpc.StatusCode.PERMISSION_DENIED)


def gone(ask: Ask, what: str) -> Row:
    """Something does not exist. Where there are owners, what is another's gets the same words."""
    return Row(
        ask,
        grpc.StatusCode.NOT_FOUND,
        Reason.NOT_FOUND,
        "",
        what,
        "List what there is, and check the spelling",
    )


def rpc(service: str, method: str, make: Callable[[World], Any]) -> Ask:
    """A unary call."""
    return lambda world: world.mesh.call(getattr(getattr(world.mesh, service), method), make(world))


def job(make: Callable[[World], job_pb2.Job]) -> Ask:
    """CreateJob with what `make` makes."""
    return lambda world: world.mesh.create(make(world))


def reads(service: str, method: str, make: Callable[[World], Any]) -> Ask:
    """A server stream, read to its end."""

    async def ask(world: World) -> None:
        call = getattr(getattr(world.mesh, service), method)(make(world), timeout=PATIENCE)
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None

    return ask


def raw(method: str, kind: str, data: bytes) -> Ask:
    """Bytes on a method such as "JobService/GetJob", of a kind such as "unary_stream"."""

    async def requests() -> AsyncIterator[bytes]:
        yield data

    async def ask(world: World) -> None:
        multi = getattr(world.mesh.channel, kind)(f"/visionmesh.v1.{method}")
        call = multi(requests() if kind.startswith("stream_") else data, timeout=PATIENCE)
        try:
            await (call.read() if kind.endswith("_stream") else call)
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None

    return ask


def sends(method: Callable[[grpc.Channel], Any], *requests: Any) -> Ask:
    """A client stream on a synchronous channel.

    An asynchronous one that still writes when it is refused reports INTERNAL (grpc issue 36066).
    """

    def send(address: str) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            method(channel)(iter(requests), timeout=PATIENCE)

    async def ask(world: World) -> None:
        try:
            await asyncio.to_thread(send, world.mesh.address)
        except grpc.RpcError as error:
            raise refusal(error) from None  # type: ignore[arg-type]

    return ask


def upload(*requests: dataset_pb2.UploadFileRequest) -> Ask:
    """UploadFile with these requests."""
    return sends(lambda channel: dataset_pb2_grpc.DatasetServiceStub(channel).UploadFile, *requests)


def header(**fields: Any) -> dataset_pb2.UploadFileRequest:
    """The first request of an upload."""
    return dataset_pb2.UploadFileRequest(
        header=dataset_pb2.UploadFileHeader(**({"filename": "a.zip"} | fields))
    )


def chunk(data: bytes) -> dataset_pb2.UploadFileRequest:
    """A piece of an upload."""
    return dataset_pb2.UploadFileRequest(chunk=data)


def of_archive(data: bytes | Callable[[], bytes], **fields: Any) -> Ask:
    """Upload these bytes and make a dataset of them."""

    async def ask(world: World) -> None:
        made = data if isinstance(data, bytes) else await asyncio.to_thread(data)
        uploaded = await world.mesh.upload("set.zip", made)
        request = dataset_pb2.CreateDatasetRequest(upload=uploaded.name, **fields)
        await world.mesh.call(world.mesh.datasets.CreateDataset, request)

    return ask


def of_dataset(files: dict[str, str | bytes], **fields: Any) -> Ask:
    """Upload an archive of these files and make a dataset of it."""
    return of_archive(partial(archive, files), **fields)


def archive(
    files: dict[str, str | bytes] | Iterable[tuple[str, str | bytes]],
    compression: int = zipfile.ZIP_DEFLATED,
    mode: int = 0,
) -> bytes:
    """A zip; `mode` is what Unix calls the kind of its files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as opened:
        for name, data in files.items() if isinstance(files, dict) else files:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, data, compression)
    return packed.getvalue()


def picture(kind: str = "JPEG", size: tuple[int, int] = (16, 16)) -> bytes:
    """An image file."""
    written = io.BytesIO()
    Image.new("RGB", size).save(written, kind)
    return written.getvalue()


def train(dataset: str, **fields: Any) -> job_pb2.Job:
    """A training of yolo11n, but for `fields`."""
    return job_pb2.Job(train=job_pb2.TrainSpec(**({"model": "yolo11n", "dataset": dataset} | fields)))


def infer(checkpoint: str, dataset: str, split: str = "") -> job_pb2.Job:
    """An inference on images of a dataset."""
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset, split=split))
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images))


def infer_on(checkpoint: str, **source: Any) -> job_pb2.Job:
    """An inference on other images."""
    images = job_pb2.ImageSource(**source)
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images))


def settings(**values: Any) -> struct_pb2.Struct:
    """Hyperparameters."""
    made = struct_pb2.Struct()
    for name, value in values.items():
        made[name] = value
    return made


def updates(*sent: progress_pb2.ProgressUpdate, first: int = 1, attempt: int = 1, job: str = "") -> Ask:
    """Progress of the running job, or of `job`."""

    async def ask(world: World) -> None:
        stream = await world.double.progress(job or world.running, attempt)
        try:
            await stream.send_from(stream.number + first, *sent)
        finally:
            stream.close()

    return ask
