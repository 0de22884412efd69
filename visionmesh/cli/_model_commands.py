"""vmesh models: what the frameworks of the mesh can build, and what can be set."""

import fnmatch
from collections.abc import Sequence
from typing import Annotated

import typer

from visionmesh.cli._console import data_console, print_messages, status_console
from visionmesh.cli._model_tables import models_table, settings_table
from visionmesh.cli._options import MeshOptions, Output, OutputOption
from visionmesh.cli._run import Exit, run
from visionmesh.client import AsyncClient
from visionmesh.v1 import runner_pb2

_SHOWN = 50
_NO_RUNNER = "No runner has connected yet, so nobody knows. `vmesh up` starts one with the mesh."


def models(
    mesh: MeshOptions,
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern such as 'yolo*n'.")
    ] = "",
    framework: Annotated[str, typer.Option(help="Of this framework only.", show_default=False)] = "",
    settings: Annotated[
        bool, typer.Option("--settings", help="List what --set takes instead: hyperparameters.")
    ] = False,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only models whose makers have published weights.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the models that runners can build by name, or the hyperparameters that they take."""

    async def work() -> Exit:
        async with AsyncClient(mesh.address) as client:
            runners = [runner async for runner in client.list_runners()]
        manifests = [
            chosen(manifest, pattern, settings, pretrained) for manifest in _newest(runners, framework)
        ]
        if output is not Output.TABLE:
            print_messages(manifests, output, "", _NO_RUNNER)
        elif not manifests:
            status_console().print(_NO_RUNNER if not framework else f"No runner runs {framework}.")
        elif settings:
            data_console().print(settings_table(manifests))
        else:
            _print_models(manifests)
        return Exit.OK

    run(work())


def chosen(
    manifest: runner_pb2.FrameworkManifest, pattern: str, settings: bool, pretrained: bool = False
) -> runner_pb2.FrameworkManifest:
    """What was asked for of a manifest: models or hyperparameters whose names fit."""
    made = runner_pb2.FrameworkManifest(
        framework=manifest.framework,
        version=manifest.version,
        kinds=manifest.kinds,
        tasks=manifest.tasks,
        fetches_pretrained=manifest.fetches_pretrained,
    )
    if settings:
        made.hyperparameters.extend(item for item in manifest.hyperparameters if _fits(item.name, pattern))
    else:
        made.models.extend(
            model
            for model in manifest.models
            if _fits(model.name, pattern) and (model.pretrained or not pretrained)
        )
    return made


def _fits(name: str, pattern: str) -> bool:
    wild = any(sign in pattern for sign in "*?[")
    return fnmatch.fnmatchcase(name, pattern if wild else f"*{pattern}*")


def _newest(runners: Sequence[runner_pb2.Runner], framework: str) -> list[runner_pb2.FrameworkManifest]:
    """The manifest of the runner of each framework that connected last."""
    known: dict[str, runner_pb2.FrameworkManifest] = {}
    for runner in sorted(runners, key=lambda runner: runner.connect_time.ToNanoseconds()):
        if framework in ("", runner.framework):
            known[runner.framework] = runner.manifest
    return [known[name] for name in sorted(known)]


def _print_models(manifests: Sequence[runner_pb2.FrameworkManifest]) -> None:
    found = sum(len(manifest.models) for manifest in manifests)
    if not found:
        status_console().print("No model fits. `vmesh models` lists them all.")
        return
    is_cut = found > _SHOWN and data_console().is_terminal
    data_console().print(models_table(manifests, _SHOWN if is_cut else found))
    if is_cut:
        status_console().print(f"{found - _SHOWN} more: name a part, as in `vmesh models resnet`.")
