"""The commands of `vmesh`, put together."""

from typing import Annotated

import typer

import visionmesh
from visionmesh.cli import _job_commands, _mesh_commands, _submit_commands
from visionmesh.cli._options import command

app = typer.Typer(
    name="vmesh",
    help="Train, validate and run computer-vision models on a VisionMesh, and see it happen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vmesh demo",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vmesh {visionmesh.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


command(app, _mesh_commands.up, "vmesh up", "vmesh up --port 0 --data-dir ./mesh --slots 2")
command(app, _mesh_commands.demo, "vmesh demo", "vmesh demo --keep")
command(
    app,
    _submit_commands.train,
    "vmesh train --model yolo11n --dataset ./shapes --epochs 10",
    "vmesh train --model yolo11n --dataset shapes --set mosaic=0 --set nbs=8 --detach",
)
command(
    app,
    _submit_commands.validate,
    "vmesh validate --checkpoint train-7k3m9q2x --dataset shapes",
    "vmesh validate --checkpoint ./best.pt --dataset ./shapes --split test",
)
command(
    app,
    _submit_commands.infer,
    "vmesh infer --checkpoint train-7k3m9q2x --images ./photos --save-overlays",
    "vmesh infer --checkpoint jobs/train-7k3m9q2x/artifacts/best --images shapes:test",
)
command(app, _job_commands.jobs, "vmesh jobs --state running", "vmesh jobs --filter 'priority >= 5' -o jsonl")
command(
    app, _job_commands.watch, "vmesh watch train-7k3m9q2x", "vmesh watch train-7k3m9q2x --after 42 -o jsonl"
)
command(
    app, _job_commands.cancel, "vmesh cancel train-7k3m9q2x", "vmesh cancel train-7k3m9q2x --grace 5s --wait"
)
command(app, _job_commands.result, "vmesh result train-7k3m9q2x", "vmesh result train-7k3m9q2x --save ./out")


def main() -> None:
    """Entry point of `vmesh`."""
    app()
