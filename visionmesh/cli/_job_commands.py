"""vmesh jobs, watch, cancel, result."""

from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from visionmesh.cli import _values, _words
from visionmesh.cli._console import as_line, as_object, data_console, status_console
from visionmesh.cli._options import JobArgument, MeshOptions, Output, OutputOption
from visionmesh.cli._result import SHOWN, save_artifacts, show_job_result
from visionmesh.cli._run import Exit, exit_of_state, run
from visionmesh.cli._submit_commands import attach
from visionmesh.cli._tables import jobs_table
from visionmesh.client import TERMINAL_STATES, AsyncClient, AsyncJobHandle
from visionmesh.v1 import job_pb2, vision_pb2

STATES = [
    name.removeprefix("JOB_STATE_").lower()
    for name, number in vision_pb2.JobState.items()
    if number != vision_pb2.JOB_STATE_UNSPECIFIED
]


@dataclass(frozen=True)
class JobsOptions:
    """Which jobs are listed, and how."""

    state: Annotated[
        list[str], typer.Option("--state", "-s", help="Only jobs in this state; repeat for more.")
    ] = field(default_factory=list)
    kind: Annotated[
        list[str], typer.Option("--kind", "-k", help="Only jobs of this kind: train, infer, …")
    ] = field(default_factory=list)
    filter: Annotated[
        str,
        typer.Option(
            "--filter", "-f", help='Such as: priority >= 5 AND labels.team = "vision".', show_default=False
        ),
    ] = ""
    order_by: Annotated[
        str, typer.Option(help="create_time, update_time or priority, with desc after it for falling.")
    ] = "create_time desc"
    limit: Annotated[int, typer.Option("--limit", help="Most jobs to list; 0 for all.", min=0)] = 50
    output: OutputOption = Output.TABLE


def jobs(options: JobsOptions, mesh: MeshOptions) -> None:
    """List jobs, newest first."""
    run(_jobs(options, mesh))


async def _jobs(options: JobsOptions, mesh: MeshOptions) -> Exit:
    found: list[job_pb2.Job] = []
    async with AsyncClient(mesh.address) as client:
        listed = client.list_jobs(
            job_filter(options.state, options.kind, options.filter),
            options.order_by,
            min(options.limit or 500, 500),
        )
        async for job in listed:
            if options.limit and len(found) == options.limit:
                status_console().print(f"[dim]only the first {options.limit}; --limit 0 lists all[/]")
                break
            found.append(job)
    if options.output is Output.TABLE:
        if found:
            data_console().print(jobs_table(found, datetime.now(UTC)))
        else:
            status_console().print("No such job. Submit one with: vmesh train --help")
    elif options.output is Output.JSON:
        data_console().print_json(data=[as_object(job) for job in found], highlight=False)
    else:
        for job in found:
            print(as_line(job))
    return Exit.OK


def job_filter(states: list[str], kinds: list[str], text: str) -> str:
    """The filter that all three say together."""
    for state in states:
        if state.lower() not in STATES:
            message = f"{state!r} is not a state; one of {', '.join(STATES)}"
            raise typer.BadParameter(message, param_hint="--state")
    terms = [f"state = {'|'.join(state.upper() for state in states)}"] if states else []
    terms += [f"kind = {'|'.join(kinds)}"] if kinds else []
    terms += [text] if text else []
    return " AND ".join(terms)


def watch(
    job: JobArgument,
    mesh: MeshOptions,
    after: Annotated[int, typer.Option(help="Begin after this sequence number.", min=0)] = 0,
    logs: Annotated[bool, typer.Option("--logs", help="Show every log line, not only warnings.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Follow a job from its beginning to its end; safe to leave and to repeat."""
    run(_watch(_values.job_name(job), mesh, after, logs, output))


async def _watch(name: str, mesh: MeshOptions, after: int, logs: bool, output: Output) -> Exit:
    async with AsyncClient(mesh.address) as client:
        handle = client.job(name)
        await handle.get()
        if output is Output.TABLE:
            at = f" --address {mesh.address}" if mesh.address else ""
            return await attach(status_console(), handle, output, logs=logs, after=after, at=at)
        async with aclosing(handle.watch(after)) as events:
            async for event in events:
                print(as_line(event), flush=True)
        return exit_of_state((await handle.get()).state)


def cancel(
    job: JobArgument,
    mesh: MeshOptions,
    grace: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Time to stop by itself before it is killed. Default 30s.",
            show_default=False,
        ),
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Return when the job has ended.")] = False,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time that --wait waits.", show_default=False)
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask a job to stop. What it found until then is kept, and so is a checkpoint."""
    period = _values.duration(grace) if grace else None
    limit = _values.duration(timeout).total_seconds() if timeout else None

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            handle = client.job(_values.job_name(job))
            stopped = await handle.cancel(period)
            if wait:
                stopped = await handle.wait(limit)
            if output is not Output.TABLE:
                print(as_line(stopped))
            elif stopped.state in TERMINAL_STATES:
                data_console().print(f"{stopped.name} {_words.styled_state(stopped.state)}")
            else:
                data_console().print(
                    f"{stopped.name} is stopping; vmesh watch {stopped.name} shows when it has"
                )
        return Exit.OK

    run(work())


def result(
    job: JobArgument,
    mesh: MeshOptions,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Download every file of the job into this folder.", file_okay=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="Predictions and artifacts in the tables.", min=1)] = SHOWN,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a job found: metrics, confusion matrix, predictions, files."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            handle = client.job(_values.job_name(job))
            found = await handle.get()
            await show_job_result(data_console(), status_console(), handle, found, output, limit)
            if save is not None:
                await _save(handle, save)
        return Exit.OK

    run(work())


async def _save(handle: AsyncJobHandle, folder: Path) -> None:
    status = status_console()
    saved = await save_artifacts(status, handle, folder)
    for path in saved:
        status.print(f"saved {path}", soft_wrap=True)
    if not saved:
        status.print("The job has no files.")
