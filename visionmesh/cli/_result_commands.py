"""vmesh result and audit: what a job left behind, and whether that is whole."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from visionmesh.audit import Check, check_files, check_history, read_history
from visionmesh.cli import _words
from visionmesh.cli._console import data_console, status_console
from visionmesh.cli._options import JobArgument, JobsArgument, MeshOptions, Output, OutputOption
from visionmesh.cli._result import SHOWN, save_artifacts, show_job_result
from visionmesh.cli._run import Exit, run
from visionmesh.cli._tables import checks_table
from visionmesh.client import AsyncClient, AsyncJobHandle


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
            handle = client.job(job)
            found = await handle.get()
            at = mesh.flag if save is None else None
            await show_job_result(data_console(), status_console(), handle, found, output, limit, at)
            if save is not None:
                await _save(handle, save)
        return Exit.OK

    run(work())


async def _save(handle: AsyncJobHandle, folder: Path) -> None:
    status = status_console()
    saved = await save_artifacts(status, handle, folder)
    if not saved:
        status.print("The job has no files.")
        return
    size = _words.size(sum(path.stat().st_size for path in saved))
    count = "1 file" if len(saved) == 1 else f"{len(saved)} files"
    status.print(f"Saved {count}, {size}, in {folder}:", soft_wrap=True)
    for path in saved[:SHOWN]:
        status.print(f"  {path.relative_to(folder)}", soft_wrap=True)
    if len(saved) > SHOWN:
        status.print(f"  … and {len(saved) - SHOWN} more")


@dataclass(frozen=True)
class _Report:
    """What the audit of one job came to."""

    job: str
    state: str
    checks: list[Check]

    @property
    def is_clean(self) -> bool:
        return not any(check.problems for check in self.checks)


def audit(
    jobs: JobsArgument,
    mesh: MeshOptions,
    files: Annotated[
        bool, typer.Option("--files", help="Download each file too, and compare its digest.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that a job's history has no gap and nothing twice, and that its result agrees with it.

    Asks what any client may ask, and counts for itself. Exit code 1 if something is wrong.
    """

    async def work() -> Exit:
        reports = []
        async with AsyncClient(mesh.address) as client:
            for job in jobs:
                reports.append(await _look_at(client.job(job), files=files))
                if output is not Output.JSON:
                    _print(reports[-1], output)
        if output is Output.JSON:
            print(json.dumps([asdict(report) for report in reports], indent=2, ensure_ascii=False))
        return Exit.OK if all(report.is_clean for report in reports) else Exit.JOB_FAILED

    run(work())


async def _look_at(handle: AsyncJobHandle, *, files: bool) -> _Report:
    history = await read_history(handle)
    checks = check_history(history)
    if files:
        columns = (TextColumn("checking files"), BarColumn(bar_width=24), DownloadColumn())
        status = status_console()
        with Progress(*columns, console=status, transient=True, disable=not status.is_terminal) as bar:
            task = bar.add_task("", total=None)

            def told(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            checks.append(await check_files(handle, history, told))
    return _Report(handle.name, _words.state_name(history.job.state), checks)


def _print(report: _Report, output: Output) -> None:
    if output is Output.JSONL:
        print(json.dumps(asdict(report), ensure_ascii=False), flush=True)
        return
    out = data_console()
    verdict = "[green]whole[/]" if report.is_clean else "[bold red]something is wrong[/]"
    out.print(f"[bold]{report.job}[/] [dim]{report.state}[/] {verdict}")
    out.print(checks_table(report.checks))
