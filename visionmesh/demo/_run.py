"""The demo from beginning to end."""

import asyncio
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from visionmesh.cli import _tables, _words
from visionmesh.cli._console import data_console, status_console
from visionmesh.cli._follow import follow
from visionmesh.cli._live import Board
from visionmesh.cli._mesh_commands import end_on_signals, show_mesh_error, starting_mesh, stay
from visionmesh.cli._result import save_artifacts
from visionmesh.cli._run import Exit
from visionmesh.cli.mesh import LocalMesh, LocalMeshError, MeshSettings
from visionmesh.client import AsyncClient
from visionmesh.demo._pipeline import Pipeline, submit_pipeline
from visionmesh.demo._report import show_files, show_next_steps, show_predictions
from visionmesh.shapes import write_shapes
from visionmesh.v1 import dataset_pb2, job_pb2, vision_pb2

REQUIRED_MAP50 = 0.9
"""mAP50 on the validation images below which the demo has failed."""


async def run_demo(folder: Path, *, keep: bool = False) -> Exit:
    """Run the demo with everything in `folder`; OK only if all is as it should be."""
    out, status = data_console(), status_console()
    end_on_signals()
    out.print(f"[bold]VisionMesh demo[/]  everything lies in {folder}", soft_wrap=True)
    try:
        async with starting_mesh(status, MeshSettings(folder / "mesh", slots=2)) as mesh:
            code = await mesh.run(_demo(out, status, mesh, folder, keep=keep))
            if keep:
                status.print("\n[dim]Ctrl-C stops the mesh.[/]")
                await _kept(status, mesh)
    except asyncio.CancelledError:
        status.print(f"Stopped. What there is so far lies in {folder}", soft_wrap=True)
        return Exit.INTERRUPTED
    except LocalMeshError as error:
        show_mesh_error(status, error)
        return Exit.REFUSED
    return code


async def _kept(status: Console, mesh: LocalMesh) -> None:
    """Stay until Ctrl-C, which is how this is meant to end."""
    try:
        await stay(status, mesh)
    except asyncio.CancelledError:
        status.print(f"Everything is kept in {mesh.settings.data_dir}", soft_wrap=True)


async def _demo(out: Console, status: Console, mesh: LocalMesh, folder: Path, *, keep: bool) -> Exit:
    for runner in await mesh.runners():
        out.print(f"[dim]{escape(_tables.runner_text(runner))}[/]", soft_wrap=True)
    shapes = folder / "shapes"
    await asyncio.to_thread(write_shapes, shapes)
    async with AsyncClient(mesh.address) as client:
        dataset = await client.create_dataset(shapes, "shapes", "Shapes")
        out.print(f"[dim]{_dataset_text(dataset)}[/]")
        pipeline = await submit_pipeline(client, dataset.name)
        jobs = await _follow_all(status, pipeline)
        for job in jobs:
            out.print(f"{_words.kind(job):<9} {job.name} {_words.styled_state(job.state)}")
            if job.state == vision_pb2.JOB_STATE_FAILED:
                out.print(f"          [red]{escape(job.error.message)}[/]", soft_wrap=True)
        if any(job.state != vision_pb2.JOB_STATE_SUCCEEDED for job in jobs):
            status.print(f"[dim]Logs: {mesh.settings.data_dir / 'logs'}[/]", soft_wrap=True)
            return Exit.JOB_FAILED
        return await _report(out, status, pipeline, mesh, folder, keep=keep)


async def _follow_all(status: Console, pipeline: Pipeline) -> list[job_pb2.Job]:
    with Board(status) as board:
        for handle in pipeline.handles:
            board.add(handle.latest or await handle.get())
        return await asyncio.gather(*(follow(board, handle) for handle in pipeline.handles))


async def _report(
    out: Console, status: Console, pipeline: Pipeline, mesh: LocalMesh, folder: Path, *, keep: bool
) -> Exit:
    validation = (await pipeline.validate.result()).validation
    out.print()
    out.print(_tables.per_class_table(validation.per_class))
    out.print(_tables.confusion_table(validation.confusion_matrix))
    out.print()
    predictions = [prediction async for prediction in pipeline.infer.predictions()]
    right, images = show_predictions(out, predictions, folder / "shapes" / "labels" / "test")
    files: list[Path] = []
    for handle in pipeline.handles:
        files += await save_artifacts(status, handle, folder / "results" / handle.name.removeprefix("jobs/"))
    out.print()
    show_files(out, files)
    out.print()
    show_next_steps(out, mesh.address, folder, pipeline.train.name, kept=keep)
    map50 = validation.metrics["mAP50"]
    out.print(f"\n[bold]mAP50 {map50:.3f}[/]  {right} of {images} unseen images right throughout")
    if map50 >= REQUIRED_MAP50:
        return Exit.OK
    status.print(f"[red]mAP50 is below {REQUIRED_MAP50}[/]")
    return Exit.JOB_FAILED


def _dataset_text(dataset: dataset_pb2.Dataset) -> str:
    splits = ", ".join(f"{split.images} {split.name}" for split in dataset.splits)
    return f"{dataset.name}: {splits} images; {', '.join(dataset.class_names)}"
