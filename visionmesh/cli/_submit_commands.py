"""vmesh train, validate, infer, embed, faces, retry: submit a job and, unless detached, stay with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.console import Console

from visionmesh.cli import _specs, _words
from visionmesh.cli._console import as_json, data_console, print_message, status_console
from visionmesh.cli._follow import follow
from visionmesh.cli._inputs import Inputs
from visionmesh.cli._live import Board
from visionmesh.cli._options import JobArgument, MeshOptions, Output, OutputOption
from visionmesh.cli._result import show_job_result
from visionmesh.cli._run import Exit, exit_of_state, run
from visionmesh.cli._submit_options import (
    DetachOption,
    EmbedOptions,
    FaceOptions,
    FaceVectorOptions,
    ImageOptions,
    InferOptions,
    LogsOption,
    RequestIdOption,
    SubmitOptions,
    TrainOptions,
    ValidateOptions,
)
from visionmesh.client import AsyncClient, AsyncJobHandle
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2

DatasetOption = Annotated[
    str, typer.Option(help="The name of a dataset; or a local folder or zip, which is sent.")
]
CheckpointOption = Annotated[
    str,
    typer.Option(
        help="A job (its best checkpoint), an artifact's name, or a local file, which is sent. Default: what "
        "the makers of --model have published.",
        show_default=False,
    ),
]
StartOption = Annotated[
    str,
    typer.Option(
        "--checkpoint", help="Weights to start from: as for validate. Default: random.", show_default=False
    ),
]
DetectorOption = Annotated[
    str,
    typer.Option(
        help="Weights of the detector: a training, or the ONNX file of a YuNet.", show_default=False
    ),
]
EmbedderOption = Annotated[
    str,
    typer.Option(help="What makes the vectors: a timm training, or the ONNX file of an SFace."),
]


def train(
    dataset: DatasetOption,
    train_options: TrainOptions,
    submit: SubmitOptions,
    mesh: MeshOptions,
    checkpoint: StartOption = "",
) -> None:
    """Train a model on a dataset."""

    async def build(inputs: Inputs) -> job_pb2.Job:
        # What can be refused at once is, before anything is sent.
        _specs.train_spec(train_options, "", "")
        weights = await inputs.checkpoint(checkpoint)
        spec = _specs.train_spec(train_options, await inputs.dataset(dataset), weights)
        return job_pb2.Job(train=spec)

    run(_submit(mesh, submit, build))


def validate(
    dataset: DatasetOption,
    validate_options: ValidateOptions,
    submit: SubmitOptions,
    mesh: MeshOptions,
    checkpoint: CheckpointOption = "",
) -> None:
    """Measure a checkpoint on a labelled split."""

    async def build(inputs: Inputs) -> job_pb2.Job:
        _specs.weights(checkpoint, _specs.validate_spec(validate_options, "", "").model)
        weights = await inputs.checkpoint(checkpoint)
        spec = _specs.validate_spec(validate_options, await inputs.dataset(dataset), weights)
        return job_pb2.Job(validate=spec)

    run(_submit(mesh, submit, build))


def infer(
    images: ImageOptions,
    infer_options: InferOptions,
    submit: SubmitOptions,
    mesh: MeshOptions,
    checkpoint: CheckpointOption = "",
) -> None:
    """Predict on images."""

    async def build(inputs: Inputs) -> job_pb2.Job:
        _specs.weights(checkpoint, _specs.infer_spec(infer_options, job_pb2.ImageSource(), "").model)
        weights = await inputs.checkpoint(checkpoint)
        spec = _specs.infer_spec(infer_options, await inputs.images(images), weights)
        return job_pb2.Job(infer=spec)

    run(_submit(mesh, submit, build))


def embed(
    images: ImageOptions,
    embed_options: EmbedOptions,
    submit: SubmitOptions,
    mesh: MeshOptions,
    checkpoint: CheckpointOption = "",
) -> None:
    """Turn images into vectors: what a trained model sees in each."""

    async def build(inputs: Inputs) -> job_pb2.Job:
        _specs.weights(checkpoint, _specs.embed_spec(embed_options, job_pb2.ImageSource(), "").model)
        weights = await inputs.checkpoint(checkpoint)
        spec = _specs.embed_spec(embed_options, await inputs.images(images), weights)
        return job_pb2.Job(embed=spec)

    run(_submit(mesh, submit, build))


def detect_faces(
    images: ImageOptions,
    face_options: FaceOptions,
    submit: SubmitOptions,
    mesh: MeshOptions,
    checkpoint: DetectorOption = "",
) -> None:
    """Find the faces in images, and cut them out."""

    async def build(inputs: Inputs) -> job_pb2.Job:
        return job_pb2.Job(detect_faces=await _detection(inputs, face_options, images, checkpoint))

    run(_submit(mesh, submit, build))


def embed_faces(
    images: ImageOptions,
    embedding_checkpoint: EmbedderOption,
    face_options: FaceOptions,
    vector_options: FaceVectorOptions,
    submit: SubmitOptions,
    mesh: MeshOptions,
    checkpoint: DetectorOption = "",
) -> None:
    """Find the faces in images, and turn each into a vector."""

    async def build(inputs: Inputs) -> job_pb2.Job:
        detection = await _detection(inputs, face_options, images, checkpoint)
        weights = await inputs.checkpoint(embedding_checkpoint)
        return job_pb2.Job(embed_faces=_specs.embed_faces_spec(vector_options, detection, weights))

    run(_submit(mesh, submit, build))


async def _detection(
    inputs: Inputs, options: FaceOptions, images: ImageOptions, checkpoint: str
) -> job_pb2.DetectFacesSpec:
    _specs.detect_faces_spec(options, job_pb2.ImageSource(), "")
    weights = await inputs.checkpoint(checkpoint) if checkpoint else ""
    return _specs.detect_faces_spec(options, await inputs.images(images), weights)


def retry(
    job: JobArgument,
    mesh: MeshOptions,
    detach: DetachOption = False,
    request_id: RequestIdOption = "",
    logs: LogsOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit a job that has ended once more, as a new job; the old one stays as it is."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            again = await client.job(job).retry(request_id or None)
            status_console().print(f"[dim]{again.name} repeats {client.job(job).name}[/]")
            return await _stay(mesh, again, output, detach=detach, logs=logs)

    run(work())


async def _submit(
    mesh: MeshOptions, options: SubmitOptions, build: Callable[[Inputs], Awaitable[job_pb2.Job]]
) -> Exit:
    _specs.queued(job_pb2.Job(), options)
    status = status_console()
    async with AsyncClient(mesh.address) as client:
        job = _specs.queued(await build(Inputs(client, status)), options)
        handle = await client.create_job(job, options.request_id or None, options.dry_run)
        assert handle.latest is not None  # noqa: S101 - create_job has just set it
        if options.dry_run:
            status.print("[green]The job would be accepted.[/] Nothing was submitted.")
            print_message(handle.latest, options.output, as_json(handle.latest))
            return Exit.OK
        return await _stay(mesh, handle, options.output, detach=options.detach, logs=options.logs)


async def _stay(
    mesh: MeshOptions, handle: AsyncJobHandle, output: Output, *, detach: bool, logs: bool
) -> Exit:
    """Attach to a job that was just submitted, or say how to."""
    status = status_console()
    if not detach:
        return await attach(status, handle, output, logs=logs, at=mesh.flag)
    assert handle.latest is not None  # noqa: S101 - submitting has just set it
    status.print(f"[dim]Submitted. Follow it with:[/] vmesh watch {handle.name}{mesh.flag}", soft_wrap=True)
    print_message(handle.latest, output, handle.name)
    return Exit.OK


async def attach(
    status: Console,
    handle: AsyncJobHandle,
    output: Output,
    *,
    logs: bool = False,
    after: int = 0,
    at: str = "",
) -> Exit:
    """Stay with a job until it has ended, then print its result; `at` completes a command line."""
    job = handle.latest or await handle.get()
    status.print(f"[bold]{handle.name}[/] [dim]{_words.kind(job)}; Ctrl-C leaves it running[/]")
    try:
        with Board(status, logs=logs) as board:
            board.add(job)
            job = await follow(board, handle, after)
    except (asyncio.CancelledError, MeshError):
        status.print(f"\n{handle.name} goes on. Come back to it, or stop it, with:")
        status.print(f"  vmesh watch {handle.name}{at}\n  vmesh cancel {handle.name}{at}", soft_wrap=True)
        raise
    await show_job_result(data_console(), status, handle, job, output, at=at)
    return exit_of_state(job.state)
