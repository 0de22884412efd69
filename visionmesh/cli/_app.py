"""The commands of `vmesh`, put together."""

from typing import Annotated

import typer

import visionmesh
from visionmesh.cli import (
    _dataset_commands,
    _doctor_commands,
    _job_commands,
    _jobs_commands,
    _media_commands,
    _mesh_commands,
    _model_commands,
    _proto_commands,
    _result_commands,
    _runner_commands,
    _submit_commands,
)
from visionmesh.cli._options import command, group

_START, _SUBMIT, _JOBS, _MESH = "A mesh of your own", "Submit", "Jobs", "The mesh"

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


command(app, _mesh_commands.up, "vmesh up", "vmesh up --port 0 --data-dir ./mesh --slots 2", panel=_START)
command(app, _mesh_commands.demo, "vmesh demo", panel=_START)
command(app, _doctor_commands.doctor, "vmesh doctor", "vmesh doctor -o json", panel=_START)

command(
    app,
    _submit_commands.train,
    "vmesh train --model yolo11n --dataset ./shapes --epochs 10",
    "vmesh train --model yolo11n --dataset shapes --set mosaic=0 --set nbs=8 --detach",
    panel=_SUBMIT,
)
command(
    app,
    _submit_commands.validate,
    "vmesh validate --checkpoint train-7k3m9q2x --dataset shapes",
    "vmesh validate --checkpoint ./best.pt --dataset ./shapes --split test",
    panel=_SUBMIT,
)
command(
    app,
    _submit_commands.infer,
    "vmesh infer --checkpoint train-7k3m9q2x --images ./photos --save-overlays",
    "vmesh infer --checkpoint jobs/train-7k3m9q2x/artifacts/best --images shapes:test",
    "vmesh infer --checkpoint train-7k3m9q2x --media 4711 --media 4712",
    panel=_SUBMIT,
)
command(
    app,
    _submit_commands.embed,
    "vmesh embed --checkpoint train-7k3m9q2x --images ./photos --detach",
    panel=_SUBMIT,
)
faces = group(app, "faces", "Faces in images: find them, turn them into vectors.", panel=_SUBMIT)
command(
    faces,
    _submit_commands.detect_faces,
    "vmesh faces detect --images ./photos --detach",
    "vmesh faces detect --images ./photos --set min_size=60 --save-overlays --detach",
    name="detect",
)
command(
    faces,
    _submit_commands.embed_faces,
    "vmesh faces embed --images ./photos --embedding-checkpoint train-7k3m9q2x --detach",
    name="embed",
)
command(
    app,
    _submit_commands.retry,
    "vmesh retry train-7k3m9q2x",
    "vmesh retry train-7k3m9q2x --detach",
    panel=_SUBMIT,
)

command(
    app,
    _jobs_commands.jobs,
    "vmesh jobs --state running --watch",
    "vmesh jobs --filter 'priority >= 5' -o jsonl",
    panel=_JOBS,
)
command(
    app,
    _job_commands.watch,
    "vmesh watch train-7k3m9q2x",
    "vmesh watch train-7k3m9q2x --after 4 -o jsonl",
    panel=_JOBS,
)
command(
    app,
    _job_commands.logs,
    "vmesh logs train-7k3m9q2x --follow",
    "vmesh logs train-7k3m9q2x --tail 20 --level warning",
    panel=_JOBS,
)
command(
    app,
    _job_commands.cancel,
    "vmesh cancel train-7k3m9q2x",
    "vmesh cancel train-7k3m9q2x --grace 5s --wait",
    panel=_JOBS,
)
command(app, _job_commands.explain, "vmesh explain train-7k3m9q2x", panel=_JOBS)
command(
    app,
    _result_commands.result,
    "vmesh result train-7k3m9q2x",
    "vmesh result train-7k3m9q2x --save ./out",
    panel=_JOBS,
)
command(app, _result_commands.audit, "vmesh audit train-7k3m9q2x --files", panel=_JOBS)
command(app, _job_commands.delete, "vmesh delete train-7k3m9q2x", panel=_JOBS)

datasets = group(app, "datasets", "Labelled images: send, check, list, delete.", panel=_MESH)
command(
    datasets,
    _dataset_commands.create,
    "vmesh datasets create ./shapes --id shapes",
    "vmesh datasets create ./shapes.zip --dry-run",
)
command(datasets, _dataset_commands.list_, "vmesh datasets list", name="list")
command(datasets, _dataset_commands.show, "vmesh datasets show shapes")
command(datasets, _dataset_commands.check, "vmesh datasets check ./shapes")
command(datasets, _dataset_commands.delete, "vmesh datasets delete shapes")

media = group(app, "media", "Images of the media store that jobs have named.", panel=_MESH)
command(
    media,
    _media_commands.list_,
    "vmesh media list",
    "vmesh media list 4711 4712",
    "vmesh media list --state failed -o jsonl",
    name="list",
)

command(
    app,
    _model_commands.models,
    "vmesh models yolo",
    "vmesh models resnet --pretrained",
    "vmesh models --framework ultralytics --settings",
    panel=_MESH,
)
command(app, _runner_commands.runners, "vmesh runners", panel=_MESH)
command(app, _runner_commands.drain, "vmesh drain ultralytics-1 --wait --timeout 10m", panel=_MESH)
command(app, _runner_commands.undrain, "vmesh undrain ultralytics-1", panel=_MESH)

protos = group(app, "protos", "The contracts, for clients in other languages.", panel=_MESH)
command(protos, _proto_commands.export, "vmesh protos export ./protos")


def main() -> None:
    """Entry point of `vmesh`."""
    app()
