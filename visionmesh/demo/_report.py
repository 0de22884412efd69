"""What the demo prints when its jobs have ended."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from visionmesh.cli._tables import image_name
from visionmesh.demo._truth import Truth, matched, read_truth
from visionmesh.v1 import result_pb2


def show_predictions(
    out: Console, predictions: Sequence[result_pb2.ImagePrediction], labels: Path
) -> tuple[int, int]:
    """Print a line per image; (images that are right throughout, images)."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("IMAGE", "EXPECTED", "FOUND", "CONFIDENCE", "MATCH"):
        table.add_column(column)
    right = 0
    for prediction in predictions:
        name = image_name(prediction)
        truths = read_truth(labels / f"{Path(name).stem}.txt", prediction.width, prediction.height)
        found = matched(truths, prediction.detections)
        is_right = found == len(truths) == len(prediction.detections)
        right += is_right
        table.add_row(
            escape(name),
            _counted(truth.class_name for truth in truths),
            _counted(detection.class_name for detection in prediction.detections) or "nothing",
            " ".join(f"{detection.confidence:.2f}" for detection in prediction.detections),
            _match(found, truths, is_right),
        )
    out.print("[bold]Images that the training has not seen, against what was drawn[/]")
    out.print(table)
    return right, len(predictions)


def _match(found: int, truths: Sequence[Truth], is_right: bool) -> Text:
    text = f"{found}/{len(truths)}"
    return Text(f"✓ {text}", style="green") if is_right else Text(f"✗ {text}", style="red")


def _counted(names: Iterable[str]) -> str:
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{count} {name}s" for name, count in sorted(counts.items()))


def show_files(out: Console, files: Sequence[Path]) -> None:
    """Print where pictures and checkpoints lie; of many overlays, their folder."""
    overlays = [path for path in files if path.parent.name == "overlays"]
    out.print("[bold]On disk[/]")
    for path in files:
        if path not in overlays:
            out.print(f"  {path}", soft_wrap=True)
    if overlays:
        out.print(
            f"  {overlays[0].parent}/  ({len(overlays)} images with predictions drawn in)", soft_wrap=True
        )


def show_next_steps(out: Console, address: str, data_dir: Path, job: str, *, kept: bool) -> None:
    """Print how to keep the mesh running and look into it."""
    if not kept:
        out.print("[bold]Keep the mesh running and look into it[/]")
        out.print("  vmesh demo --keep                       [dim]# or, with this demo's data:[/]")
        out.print(f"  vmesh up --port 50051 --data-dir {data_dir / 'mesh'}", soft_wrap=True)
        address = "127.0.0.1:50051"
    else:
        out.print("[bold]The mesh keeps running; in another terminal[/]")
    at = "" if address == "127.0.0.1:50051" else f" --address {address}"
    request = f'{{"job": "{job}"}}'
    lines = [
        f"vmesh jobs{at}",
        f"vmesh result {job}{at}",
        f"grpcurl -plaintext {address} list",
        f"grpcurl -plaintext -d '{request}' {address} visionmesh.v1.ProgressService/WatchProgress",
        f"buf curl --protocol grpc --http2-prior-knowledge --list-methods http://{address}",
        "buf curl --protocol grpc --http2-prior-knowledge "
        f"http://{address}/visionmesh.v1.JobService/ListJobs -d '{{}}'",
    ]
    for line in lines:
        out.print(f"  {escape(line)}", soft_wrap=True)
