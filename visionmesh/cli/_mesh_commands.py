"""vmesh up and vmesh demo."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from visionmesh.cli._console import data_console, status_console
from visionmesh.cli._run import Exit, run
from visionmesh.cli._up_screen import resume_command, show_mesh
from visionmesh.cli.mesh import LocalMesh, LocalMeshError, MeshSettings, local_mesh

DATA_DIR = Path("~/.visionmesh")


def up(
    port: Annotated[
        int, typer.Option(help="Port on this machine; 0 for a free one.", min=0, max=65535)
    ] = 50051,
    data_dir: Annotated[
        Path, typer.Option(help="Folder for database, files and logs.", file_okay=False)
    ] = DATA_DIR,
    runners: Annotated[
        int, typer.Option(help="Runner agents to start for each framework.", min=1, max=64)
    ] = 1,
    slots: Annotated[int, typer.Option(help="Jobs at a time on each runner.", min=1, max=1024)] = 1,
    framework: Annotated[
        list[str] | None,
        typer.Option(
            help="What runners run: timm, faces, module:Class, ...; repeatable. [default: ultralytics]",
            show_default=False,
        ),
    ] = None,
    datasets: Annotated[
        str,
        typer.Option(metavar="URL", help="Store of datasets, such as s3://bucket; a folder by default."),
    ] = "",
    artifacts: Annotated[
        str,
        typer.Option(metavar="URL", help="Store of checkpoints and results, such as s3://bucket/prefix."),
    ] = "",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Let runners fetch published weights from the Internet.")
    ] = False,
    http_port: Annotated[
        int | None,
        typer.Option(
            help="Port of REST and /docs; 0 for a free one. [default: 8080, or a free one if that is taken]",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a mesh on this machine until Ctrl-C: scheduler, runners and gateway, nothing to configure."""
    frameworks = tuple(dict.fromkeys(framework or ["ultralytics"]))
    settings = MeshSettings(
        data_dir=data_folder(data_dir),
        port=port,
        frameworks=frameworks,
        runners=runners,
        slots=slots,
        datasets=datasets,
        artifacts=artifacts,
        pretrained=pretrained,
        http=True,
        http_port=http_port,
    )
    run(until_stopped(settings))


def data_folder(given: Path) -> Path:
    """`given` as an absolute path."""
    return given.expanduser().resolve()


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the mesh running afterwards, until Ctrl-C.")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for everything; new by default.", file_okay=False, show_default=False),
    ] = None,
) -> None:
    """Train, validate and infer on drawn shapes with a mesh of its own: under 90 s on two cores."""
    from visionmesh.demo import run_demo

    folder = data_folder(data_dir) if data_dir else Path(tempfile.mkdtemp(prefix="visionmesh-demo-"))
    run(run_demo(folder, keep=keep))


async def until_stopped(settings: MeshSettings) -> Exit:
    """Run a mesh until SIGINT or SIGTERM, a second of which kills it; refused if it cannot be had."""
    status = status_console()
    end_on_signals()
    try:
        async with starting_mesh(status, settings) as mesh:
            show_mesh(data_console(), mesh, await mesh.runners())
            await stay(status, mesh)
    except asyncio.CancelledError:
        return _tell_end(status, settings)
    except LocalMeshError as error:
        show_mesh_error(status, error)
        return Exit.REFUSED
    return Exit.OK


def _tell_end(status: Console, settings: MeshSettings) -> Exit:
    task = asyncio.current_task()
    killed = task is not None and task.cancelling() > 1
    how = "Killed; jobs that ran start again from their last checkpoint" if killed else "Stopped"
    _say(status, f"{how}. Everything is kept in {settings.data_dir}")
    _say(status, f"Go on with: {resume_command(settings, data_folder(DATA_DIR))}")
    return Exit.INTERRUPTED if killed else Exit.OK


@asynccontextmanager
async def starting_mesh(status: Console, settings: MeshSettings) -> AsyncIterator[LocalMesh]:
    """A local mesh, with a sign of life while it starts."""
    async with AsyncExitStack() as stack:
        with status.status("Starting the mesh…") as sign:
            mesh = await stack.enter_async_context(local_mesh(settings, sign.update))
        yield mesh


async def stay(status: Console, mesh: LocalMesh) -> None:
    """Wait for Ctrl-C; raises LocalMeshError when a process of the mesh ends by itself."""
    try:
        await mesh.stay()
    except asyncio.CancelledError:
        _say(status, "\nStopping… (Ctrl-C again kills at once)")
        raise


def _say(status: Console, text: str) -> None:
    """Print, to a terminal that may be gone."""
    with suppress(OSError):
        status.print(escape(text), soft_wrap=True)


def end_on_signals() -> None:
    """Have Ctrl-C, SIGTERM and a closed terminal cancel the running command.

    A mesh that is cancelled a second time, while it stops, is killed.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - called from a coroutine
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def show_mesh_error(status: Console, error: LocalMeshError) -> None:
    """Print why the mesh did not start, or ended."""
    status.print(f"[bold red]Error[/] {escape(str(error))}", soft_wrap=True)
    if error.reason:
        status.print(f"  [dim]{escape(error.reason)}[/]")
