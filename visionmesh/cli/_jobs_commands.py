"""vmesh jobs: the list, once or for as long as one looks at it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import typer

from visionmesh.cli._console import as_line, data_console, print_messages, status_console
from visionmesh.cli._jobs_live import JobsBoard
from visionmesh.cli._options import MeshOptions, Output, OutputOption
from visionmesh.cli._run import Exit, run
from visionmesh.cli._tables import jobs_table
from visionmesh.client import AsyncClient
from visionmesh.v1 import job_pb2, vision_pb2

STATES = [
    name.removeprefix("JOB_STATE_").lower()
    for name, number in vision_pb2.JobState.items()
    if number != vision_pb2.JOB_STATE_UNSPECIFIED
]
_PAGE = 500


@dataclass(frozen=True)
class JobsOptions:
    """Which jobs are listed, and how."""

    state: Annotated[
        list[str], typer.Option("--state", "-s", help="Only jobs in this state; repeat for more.")
    ] = field(default_factory=list)
    kind: Annotated[
        list[str], typer.Option("--kind", "-k", help="Only jobs of this kind: train, infer, …")
    ] = field(default_factory=list)
    label: Annotated[
        list[str],
        typer.Option(
            "--label", "-l", metavar="KEY=VALUE", help="Only jobs with this label; repeat for more."
        ),
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
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show jobs as they change.")] = False
    output: OutputOption = Output.TABLE


def jobs(options: JobsOptions, mesh: MeshOptions) -> None:
    """List jobs, newest first."""
    wanted = job_filter(options)
    run(_watch(options, wanted, mesh) if options.watch else _list(options, wanted, mesh))


async def _list(options: JobsOptions, wanted: str, mesh: MeshOptions) -> Exit:
    found: list[job_pb2.Job] = []
    async with AsyncClient(mesh.address) as client:
        listed = client.list_jobs(wanted, options.order_by, min(options.limit or _PAGE, _PAGE))
        async for job in listed:
            if options.limit and len(found) == options.limit:
                status_console().print(f"[dim]only the first {options.limit}; --limit 0 lists all[/]")
                break
            found.append(job)
    none = "No such job." if wanted else "No jobs yet. Submit one: vmesh train --help"
    print_messages(found, options.output, jobs_table(found, datetime.now(UTC)), none)
    return Exit.OK


async def _watch(options: JobsOptions, wanted: str, mesh: MeshOptions) -> Exit:
    if options.output is Output.JSON:
        raise typer.BadParameter("a watch has no end, and JSON has one: use -o jsonl", param_hint="--output")
    async with AsyncClient(mesh.address) as client:
        changes = client.watch_jobs(wanted)
        async with aclosing(changes):
            if options.output is Output.JSONL:
                await _print_changes(changes)
            else:
                with JobsBoard(data_console(), options.limit) as board:
                    async for change in changes:
                        board.show(change)
    return Exit.OK


async def _print_changes(changes: AsyncIterator[job_pb2.WatchJobsResponse]) -> None:
    async for change in changes:
        if change.HasField("job"):
            print(as_line(change.job), flush=True)


def job_filter(options: JobsOptions) -> str:
    """The filter that all options say together."""
    for state in options.state:
        if state.lower() not in STATES:
            message = f"{state!r} is not a state; one of {', '.join(STATES)}"
            raise typer.BadParameter(message, param_hint="--state")
    terms = [f"state = {'|'.join(state.upper() for state in options.state)}"] if options.state else []
    terms += [f"kind = {'|'.join(options.kind)}"] if options.kind else []
    terms += [_label_term(pair) for pair in options.label]
    terms += [options.filter] if options.filter else []
    return " AND ".join(terms)


def _label_term(pair: str) -> str:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise typer.BadParameter(
            f"{pair!r} is not key=value; write it like team=vision", param_hint="--label"
        )
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'labels.{key} = "{quoted}"'
