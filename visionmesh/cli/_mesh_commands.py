"""vmesh up and vmesh demo."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from visionmesh.cli._console import data_console, status_console
from visionmesh.cli._run import Exit, run
from visionmesh.cli._tables import runner_text
from visionmesh.cli.mesh import LocalMesh, LocalMeshError, MeshSettings, local_mesh
from visionmesh.client import DEFAULT_ADDRESS
from visionmesh.v1 import runner_pb2

DATA_DIR = Path("~/.visionmesh")


def up(
    port: Annotated[
        int, typer.Option(help="Port on this machine; 0 for a free one.", min=0, max=65535)
    ] = 50051,
    data_dir: Annotated[
        Path, typer.Option(help="Folder for database, files and logs.", file_okay=False)
    ] = DATA_DIR,
    runners: Annotated[int, typer.Option(help="Runner agents to start.", min=1, max=64)] = 1,
    slots: Annotated[int, typer.Option(help="Jobs at a time on each runner.", min=1, max=1024)] = 1,
    framework: Annotated[str, typer.Option(help="What the runners run.")] = "ultralytics",
) -> None:
    """Run a mesh on this machine until Ctrl-C: scheduler and runners, nothing to configure."""
    settings = MeshSettings(data_dir.expanduser().resolve(), port, framework, runners, slots)
    run(until_stopped(settings))


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

    folder = (
        data_dir.expanduser().resolve() if data_dir else Path(tempfile.mkdtemp(prefix="visionmesh-demo-"))
    )
    run(run_demo(folder, keep=keep))


async def until_stopped(settings: MeshSettings) -> Exit:
    """Run a mesh until SIGINT or SIGTERM; an error if one of its processes ends by itself."""
    status = status_console()
    end_on_sigterm()
    try:
        async with starting_mesh(status, settings) as mesh:
            show_mesh(data_console(), mesh, await mesh.runners())
            await stay(status, mesh)
    except asyncio.CancelledError:
        where = f"Stopped. Everything is kept in {settings.data_dir}; `vmesh up` goes on from there."
        status.print(where, soft_wrap=True)
    except LocalMeshError as error:
        status.print(f"[bold red]Error[/] {escape(str(error))}", soft_wrap=True)
        return Exit.REFUSED
    return Exit.OK


@asynccontextmanager
async def starting_mesh(status: Console, settings: MeshSettings) -> AsyncIterator[LocalMesh]:
    """A local mesh, with a sign of life while it starts."""
    async with AsyncExitStack() as stack:
        with status.status("Starting the mesh…"):
            mesh = await stack.enter_async_context(local_mesh(settings))
        yield mesh


async def stay(status: Console, mesh: LocalMesh) -> None:
    """Wait for Ctrl-C; raises LocalMeshError when a process of the mesh ends by itself."""
    try:
        await mesh.stay()
    except asyncio.CancelledError:
        status.print("\nStopping…")
        raise


def end_on_sigterm() -> None:
    """Let SIGTERM and a closed terminal do what Ctrl-C does: cancel the running command."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - called from a coroutine
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def show_mesh(out: Console, mesh: LocalMesh, runners: list[runner_pb2.Runner]) -> None:
    """Print where the mesh is, what it has, and what to try first."""
    out.print(f"[bold green]The mesh is up[/] at [bold]{mesh.address}[/] (gRPC, with reflection)")
    out.print(f"data    {mesh.settings.data_dir}", soft_wrap=True)
    for runner in runners:
        out.print(f"runner  {escape(runner_text(runner))}", soft_wrap=True)
    at = "" if mesh.address == DEFAULT_ADDRESS else f" --address {mesh.address}"
    out.print("\nTry, in another terminal:")
    out.print(f"  vmesh train --model yolo11n --dataset ./my-dataset --epochs 10{at}", soft_wrap=True)
    out.print(f"  vmesh jobs{at}", soft_wrap=True)
    out.print(f"  grpcurl -plaintext {mesh.address} list", soft_wrap=True)
    out.print("\n[dim]Ctrl-C stops it.[/]")
