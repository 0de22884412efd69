"""vmesh watch, logs, cancel, explain, delete: one job at a time."""

from collections import deque
from contextlib import aclosing
from typing import Annotated

import typer

from visionmesh.cli import _values, _words
from visionmesh.cli._console import as_line, data_console, print_message, status_console
from visionmesh.cli._logs import LogPrinter, level_number
from visionmesh.cli._options import JobArgument, JobsArgument, MeshOptions, Output, OutputOption
from visionmesh.cli._run import Exit, exit_of_state, run
from visionmesh.cli._submit_commands import attach
from visionmesh.cli._tables import explanation
from visionmesh.client import TERMINAL_STATES, AsyncClient
from visionmesh.v1 import progress_pb2


def watch(
    job: JobArgument,
    mesh: MeshOptions,
    after: Annotated[int, typer.Option(help="Begin after this sequence number.", min=0)] = 0,
    logs: Annotated[bool, typer.Option("--logs", help="Show every log line, not only warnings.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Follow a job from its beginning to its end; safe to leave and to repeat."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            handle = client.job(job)
            await handle.get()
            if output is Output.TABLE:
                return await attach(status_console(), handle, output, logs=logs, after=after, at=mesh.flag)
            async with aclosing(handle.watch(after)) as events:
                async for event in events:
                    print(as_line(event), flush=True)
            return exit_of_state((await handle.get()).state)

    run(work())


def logs(
    job: JobArgument,
    mesh: MeshOptions,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", help="Only the last lines, so many.", min=0)
    ] = None,
    level: Annotated[
        str, typer.Option(help="Only lines of this level and above: debug, info, warning, error.")
    ] = "debug",
    attempt: Annotated[int | None, typer.Option(help="Only lines of this attempt.", min=1)] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Say when, in UTC.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what a job has said."""
    printer = LogPrinter(level_number(level), attempt, output, timestamps=timestamps)

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            handle = client.job(job)
            kept: deque[progress_pb2.JobEvent] = deque(maxlen=tail)
            last = 0
            async for event in handle.events():
                last = event.sequence
                if not printer.wants(event):
                    continue
                if tail is None:
                    printer.print(event)
                else:
                    kept.append(event)
            for event in kept:
                printer.print(event)
            if follow:
                async with aclosing(handle.watch(last)) as events:
                    async for event in events:
                        if printer.wants(event):
                            printer.print(event)
        return Exit.OK

    run(work())


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
            handle = client.job(job)
            stopped = await handle.cancel(period)
            if wait:
                stopped = await handle.wait(limit)
        text = f"{stopped.name} {_words.styled_state(stopped.state)}"
        if stopped.state not in TERMINAL_STATES:
            text = f"{stopped.name} is stopping; see it end: vmesh watch {stopped.name}{mesh.flag}"
        print_message(stopped, output, text)
        return Exit.OK

    run(work())


def explain(job: JobArgument, mesh: MeshOptions, output: OutputOption = Output.TABLE) -> None:
    """Say why a job is where it is: what it waits for, and what each runner says to it."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            handle = client.job(job)
            answer = await handle.explain()
        print_message(answer, output, explanation(handle.name, answer))
        return Exit.OK

    run(work())


def delete(jobs: JobsArgument, mesh: MeshOptions) -> None:
    """Delete jobs that have ended, with their events, predictions and files."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            for job in jobs:
                handle = client.job(job)
                await handle.delete()
                data_console().print(f"{handle.name} deleted")
        return Exit.OK

    run(work())
