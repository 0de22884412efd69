"""What `vmesh up` shows: where the mesh is, what it has, what to try, and how to go on later."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

import visionmesh
from visionmesh.cli.mesh import DatabaseUpgrade, LocalMesh, MeshSettings
from visionmesh.client import DEFAULT_ADDRESS
from visionmesh.v1 import runner_pb2

# What lets a stock YOLO learn from 96 small images: gradients of each batch are used at once, and
# statistics adapt fast. Without these its first epochs look dead.
_FOR_FEW_IMAGES = "--batch-size 8 --set nbs=8 --set bn_momentum=0.1"

_TO_TRY = {
    "ultralytics": (
        "python -m visionmesh.shapes shapes",
        f"vmesh train --model yolo11n --dataset ./shapes --epochs 10 --image-size 96 {_FOR_FEW_IMAGES}",
    ),
    "timm": (
        "python -m visionmesh.shapes shapes --classes",
        "vmesh train --framework timm --model resnet18 --dataset ./shapes --epochs 5 --image-size 64",
    ),
    "faces": ("vmesh faces detect --images ./photos",),
}
"""Lines that show what a framework is for; only the last one calls the mesh."""

_DEFAULT_PORT = int(DEFAULT_ADDRESS.rpartition(":")[2])


def show_mesh(out: Console, mesh: LocalMesh, runners: Sequence[runner_pb2.Runner]) -> None:
    """Print where the mesh is, what it has, and what to try."""
    out.print(f"[bold green]VisionMesh {visionmesh.__version__} is up[/]\n")
    for name, text in facts(mesh, runners):
        out.print(f"  [dim]{name:<9}[/] {escape(text)}", soft_wrap=True)
    out.print("\nTry it in another terminal:\n")
    for line in lines_to_copy(mesh.address, mesh.settings.frameworks[0]):
        out.print(f"  [cyan]{escape(fitted(line, out.width - 2))}[/]", soft_wrap=True)
    out.print("\n[dim]Ctrl-C stops the mesh; everything is kept.[/]")


def facts(mesh: LocalMesh, runners: Sequence[runner_pb2.Runner]) -> list[tuple[str, str]]:
    """Names and values of what there is."""
    found = [
        ("address", f"{mesh.address} (gRPC with reflection; this machine only)"),
        ("data", str(mesh.settings.data_dir)),
    ]
    if mesh.http_address:
        text = f"http://{mesh.http_address}/docs (REST, JSON, event streams; this machine only)"
        found.insert(1, ("web", text))
    stores = [("datasets", mesh.settings.datasets), ("artifacts", mesh.settings.artifacts)]
    found += [(name, url) for name, url in stores if url]
    if mesh.upgrade is not None:
        found.append(("database", upgrade_text(mesh.upgrade)))
    if runners:
        found.append(("machine", machine_text(runners[0].capacity)))
        kinds = sorted({runner.framework for runner in runners})
        alike = [[runner for runner in runners if runner.framework == kind] for kind in kinds]
        text = "; ".join(runners_text(group) for group in alike)
        found.append(("runner" if len(runners) == 1 else "runners", text))
    return found


def machine_text(capacity: runner_pb2.RunnerCapacity) -> str:
    """Cores, memory and GPUs, as a runner reports them."""
    cores = "1 CPU core" if capacity.cpus == 1 else f"{capacity.cpus:g} CPU cores"
    gpus = Counter(f"{gpu.model} ({gpu.memory_mib / 1024:.0f} GiB)" for gpu in capacity.gpus)
    named = [name if count == 1 else f"{count} times {name}" for name, count in gpus.items()]
    return f"{cores}, {capacity.memory_bytes / 2**30:.0f} GiB memory, {', '.join(named) or 'no GPU'}"


def runners_text(runners: Sequence[runner_pb2.Runner]) -> str:
    """Who runs jobs of one framework: these runners of a local mesh are alike."""
    names = [runner.name.removeprefix("runners/") for runner in runners]
    who = names[0] if len(names) == 1 else f"{len(names)}, {names[0]} to {names[-1]}"
    slots = runners[0].capacity.slots
    jobs = "1 job at a time" if slots == 1 else f"{slots} jobs at a time"
    each = "" if len(names) == 1 else " each"
    return f"{who} ({runners[0].framework} {runners[0].framework_version}), {jobs}{each}"


def upgrade_text(upgrade: DatabaseUpgrade) -> str:
    """What was done to a database of an earlier version, and where the copy is."""
    return f"migrated from {upgrade.before} to {upgrade.after}; as it was before: {upgrade.backup}"


def lines_to_copy(address: str, framework: str = "ultralytics") -> list[str]:
    """Shell lines that work as they are in a new terminal."""
    at = (
        ""
        if address == DEFAULT_ADDRESS and "VISIONMESH_ADDRESS" not in os.environ
        else f" --address {address}"
    )
    activate = Path(sys.prefix) / "bin" / "activate"
    lines = [f". {shlex.quote(str(activate))}"] if activate.exists() else []
    *before, call = _TO_TRY.get(framework, _TO_TRY["ultralytics"])
    return [*lines, *before, call + at, f"vmesh jobs{at}"]


def fitted(line: str, width: int) -> str:
    """`line`, broken before options where it is wider than `width`; it pastes as one."""
    command, *options = line.split(" --")
    rows = [command]
    for option in options:
        if len(rows[-1]) + len(f" --{option} \\") > width:
            rows.append(f"    --{option}")
        else:
            rows[-1] += f" --{option}"
    return " \\\n".join(rows)


def resume_command(settings: MeshSettings, home: Path) -> str:
    """The command that starts this mesh again."""
    plain = MeshSettings(home, _DEFAULT_PORT)
    words = ["vmesh", "up"]
    for flag, value, usual in (
        ("--data-dir", settings.data_dir, plain.data_dir),
        ("--port", settings.port, plain.port),
        ("--runners", settings.runners, plain.runners),
        ("--slots", settings.slots, plain.slots),
        ("--datasets", settings.datasets, plain.datasets),
        ("--artifacts", settings.artifacts, plain.artifacts),
        ("--http-port", settings.http_port, plain.http_port),
    ):
        if value != usual:
            words += [flag, str(value)]
    if settings.frameworks != plain.frameworks:
        words += [word for name in settings.frameworks for word in ("--framework", name)]
    return shlex.join(words)
