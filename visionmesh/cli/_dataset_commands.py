"""vmesh datasets: labelled images, sent, checked, listed, deleted."""

import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from visionmesh.cli._completion import datasets as complete_datasets
from visionmesh.cli._console import data_console, print_message, print_messages, status_console
from visionmesh.cli._dataset_tables import dataset_view, datasets_table, report_view
from visionmesh.cli._options import MeshOptions, Output, OutputOption
from visionmesh.cli._run import Exit, run
from visionmesh.cli._sending import Sending
from visionmesh.cli._specs import task as task_of
from visionmesh.client import AsyncClient
from visionmesh.datasets import archives
from visionmesh.datasets.formats import Examined, examine
from visionmesh.datasets.report import DatasetReport
from visionmesh.v1 import dataset_pb2

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="A folder or zip: YOLO, COCO, class folders, or images with JSON.", exists=True
    ),
]
TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        help="What the labels are for. Default: found out; say it where they leave it open.",
        show_default=False,
    ),
]
DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="The dataset: datasets/x, or just x.",
        show_default=False,
        autocompletion=complete_datasets,
    ),
]
DatasetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET...",
        help="Datasets: datasets/x, or just x.",
        show_default=False,
        autocompletion=complete_datasets,
    ),
]


def create(
    source: SourceArgument,
    mesh: MeshOptions,
    dataset_id: Annotated[
        str, typer.Option("--id", help="The x of datasets/x. Default: given by the mesh.", show_default=False)
    ] = "",
    name: Annotated[
        str,
        typer.Option("--name", "-n", help="A name for people. Default: the folder's.", show_default=False),
    ] = "",
    task: TaskOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a folder or zip, have every label checked, and keep it as a dataset."""
    wanted = task_of(task)

    async def work() -> Exit:
        status = status_console()
        async with AsyncClient(mesh.address) as client:
            with Sending(status, source.resolve().name, then="checking") as told:
                made = await client.create_dataset(
                    source, dataset_id, name or source.resolve().stem, told, dry_run, wanted
                )
        if dry_run:
            status.print("[green]The dataset would be accepted.[/] Nothing was stored.")
        print_message(made, output, dataset_view(made))
        return Exit.OK

    run(work())


def list_(
    mesh: MeshOptions,
    limit: Annotated[int, typer.Option("--limit", help="Most datasets to list; 0 for all.", min=0)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List datasets, newest first."""

    async def work() -> Exit:
        found: list[dataset_pb2.Dataset] = []
        async with AsyncClient(mesh.address) as client:
            async for dataset in client.list_datasets():
                if limit and len(found) == limit:
                    status_console().print(f"[dim]only the first {limit}; --limit 0 lists all[/]")
                    break
                found.append(dataset)
        none = f"No datasets yet. Create one: vmesh datasets create ./folder{mesh.flag}"
        print_messages(found, output, datasets_table(found, datetime.now(UTC)), none)
        return Exit.OK

    run(work())


def show(dataset: DatasetArgument, mesh: MeshOptions, output: OutputOption = Output.TABLE) -> None:
    """Show one dataset: its classes, its splits, where it lies."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            found = await client.dataset(dataset)
        print_message(found, output, dataset_view(found))
        return Exit.OK

    run(work())


def check(
    source: SourceArgument,
    task: TaskOption = "",
    limit: Annotated[int, typer.Option("--limit", help="Most problems to show; 0 for all.", min=0)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a folder or zip on this machine, as the mesh would, without sending it.

    Tells what is in it, by class and split, and all that is wrong with it. JSON always has every problem.
    Exit code 2 if something is wrong.
    """
    task_of(task)  # is there such a task?
    found: Examined | None = None
    try:
        found = _examined(source)
        report = found.report
        if task and (problem := report.prefer(task)) is not None:
            report.add_problem("--task", 0, f"{problem}; leave it out, or change the labels")
    except archives.BadArchive as bad:
        report = DatasetReport()
        report.add_problem(source.name, 0, str(bad))
    if output is Output.TABLE:
        data_console().print(report_view(source, found, report, limit))
    else:
        told = {"format": found.layout.name if found else None, "task": report.task, **asdict(report)}
        print(json.dumps(told, indent=2 if output is Output.JSON else None, ensure_ascii=False))
    if report.problem_count:
        raise typer.Exit(Exit.REFUSED)


def _examined(source: Path) -> Examined:
    with tempfile.TemporaryDirectory(prefix="visionmesh-") as scratch:
        folder = source
        if not source.is_dir():
            folder = Path(scratch) / "files"
            with status_console().status(f"Unpacking {source.name}…"):
                archives.unpack(source, folder)
        with status_console().status(f"Reading {source.name}…"):
            return examine(folder, Path(scratch) / "split")


def delete(datasets: DatasetsArgument, mesh: MeshOptions) -> None:
    """Delete datasets that no unfinished job uses, with their files."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            for dataset in datasets:
                found = await client.dataset(dataset)
                await client.delete_dataset(found.name)
                data_console().print(f"{found.name} deleted")
        return Exit.OK

    run(work())
