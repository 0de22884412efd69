"""What a job left behind: shown, printed for programs, saved to disk."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from visionmesh import names
from visionmesh.cli import _tables, _words
from visionmesh.cli._console import as_object
from visionmesh.cli._options import Output
from visionmesh.client import AsyncJobHandle, ProgressCallback
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2, result_pb2, vision_pb2

SHOWN = 20
"""Predictions and artifacts in a table; programs get all of them."""

Item = TypeVar("Item")


async def show_job_result(
    out: Console,
    status: Console,
    handle: AsyncJobHandle,
    job: job_pb2.Job,
    output: Output,
    limit: int = SHOWN,
    at: str | None = "",
) -> None:
    """Print a job's end and its result: tables to read, or all of it as JSON.

    `at` completes the command lines that are proposed; with None there are none.
    """
    result = await _result(handle)
    if output is Output.TABLE:
        _show_end(status, job, at)
        if result is not None:
            _tables.show_result(out, result)
        await _show_lists(out, handle, job, limit, at)
    elif output is Output.JSON:
        print(json.dumps(await _everything(handle, job, result), indent=2, ensure_ascii=False))
    else:
        await _print_lines(handle, job, result)


async def save_artifacts(status: Console, handle: AsyncJobHandle, folder: Path) -> list[Path]:
    """Download every file of a job below `folder`; their paths."""
    saved: list[Path] = []
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn())
    with Progress(*columns, console=status, transient=True, disable=not status.is_terminal) as progress:
        async for artifact in handle.artifacts():
            target = folder / file_name(artifact)
            task = progress.add_task(escape(target.name), total=artifact.size_bytes)
            saved.append(await handle.download(artifact, target, _updater(progress, task)))
            progress.remove_task(task)
    return saved


def _updater(progress: Progress, task: TaskID) -> ProgressCallback:
    return lambda done, total: progress.update(task, completed=done, total=total)


def file_name(artifact: result_pb2.Artifact) -> str:
    """Where an artifact belongs below a folder: its own path, with the stored file's ending."""
    path = names.artifact_path(artifact.name)
    suffix = Path(artifact.uri).suffix
    return path if Path(path).suffix or not suffix else path + suffix


async def _result(handle: AsyncJobHandle) -> result_pb2.Result | None:
    try:
        return await handle.result()
    except MeshError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return None  # the job exists, or an earlier call would have said so
        raise


def _show_end(status: Console, job: job_pb2.Job, at: str | None) -> None:
    took = ""
    if job.HasField("start_time") and job.HasField("end_time"):
        seconds = (job.end_time.ToDatetime() - job.start_time.ToDatetime()).total_seconds()
        took = f" after {_words.span(seconds)}"
    status.print(f"{job.name} {_words.styled_state(job.state)}{took}")
    if job.state == vision_pb2.JOB_STATE_FAILED:
        status.print(f"[red]{escape(job.error.message)}[/]", soft_wrap=True)
    if job.state == vision_pb2.JOB_STATE_FAILED and at is not None:
        status.print(f"[dim]What it said:[/] vmesh logs {job.name}{at}", soft_wrap=True)
        status.print(f"[dim]Once more:[/]    vmesh retry {job.name}{at}", soft_wrap=True)


async def _show_lists(
    out: Console, handle: AsyncJobHandle, job: job_pb2.Job, limit: int, at: str | None
) -> None:
    if not (job.HasField("train") or job.HasField("validate")):
        predictions, more = await _first(handle.predictions(), limit)
        if predictions:
            out.print(_tables.predictions_table(predictions))
        if more and at is not None:
            out.print(f"[dim]… and more:[/] vmesh result {job.name} -o jsonl{at}", soft_wrap=True)
    artifacts, more = await _first(handle.artifacts(), limit)
    if artifacts:
        out.print(_tables.artifacts_table(artifacts))
    if artifacts and at is not None:
        rest = " (all of them)" if more else ""
        out.print(f"[dim]Save them{rest} with:[/] vmesh result {job.name} --save DIR{at}", soft_wrap=True)


async def _first(items: AsyncIterator[Item], limit: int) -> tuple[list[Item], bool]:
    """The first `limit` items, and whether there are more."""
    found: list[Item] = []
    async for item in items:
        if len(found) == limit:
            return found, True
        found.append(item)
    return found, False


async def _everything(
    handle: AsyncJobHandle, job: job_pb2.Job, result: result_pb2.Result | None
) -> dict[str, object]:
    return {
        "job": as_object(job),
        "result": as_object(result) if result is not None else None,
        "predictions": [as_object(prediction) async for prediction in handle.predictions()],
        "artifacts": [as_object(artifact) async for artifact in handle.artifacts()],
    }


async def _print_lines(handle: AsyncJobHandle, job: job_pb2.Job, result: result_pb2.Result | None) -> None:
    _print_line("job", job)
    if result is not None:
        _print_line("result", result)
    async for prediction in handle.predictions():
        _print_line("prediction", prediction)
    async for artifact in handle.artifacts():
        _print_line("artifact", artifact)


def _print_line(kind: str, message: Message) -> None:
    print(json.dumps({kind: as_object(message)}, ensure_ascii=False))
