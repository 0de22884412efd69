"""Tables for people."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from visionmesh.audit import Check
from visionmesh.cli import _words
from visionmesh.v1 import job_pb2, result_pb2, runner_pb2

_SHOWN_DETECTIONS = 4
_SEEN = 0.5  # confidence from which a keypoint counts as visible
_WHOLE = frozenset({"JOB", "STATE", "ARTIFACT", "RUNNER", "DATASET", "CHECK", "FILE"})
"""Columns that are never broken over two lines: people copy from them."""


def jobs_table(jobs: Iterable[job_pb2.Job], now: datetime) -> Table:
    """One line per job."""
    table = plain_table("JOB", "KIND", "STATE", "PROGRESS", "PRIO", "TRY", "AGE", "NAME")
    for job in jobs:
        table.add_row(
            job.name,
            _words.kind(job),
            _words.styled_state(job.state),
            escape(progress_text(job)),
            str(job.priority),
            str(job.attempt),
            _words.age(job.create_time, now),
            escape(job.display_name),
        )
    return table


def progress_text(job: job_pb2.Job) -> str:
    """How far a job has come, in a few words."""
    progress = job.progress
    if progress.total_epochs:
        text = f"epoch {progress.epoch}/{progress.total_epochs}"
        best = next((name for name in ("mAP50", "accuracy_top1") if name in progress.metrics), "")
        return f"{text} {best} {_words.number(progress.metrics[best])}" if best else text
    if progress.images_total:
        return f"{progress.images_done}/{progress.images_total} images"
    return f"{progress.fraction:.0%}" if progress.fraction else ""


def show_result(console: Console, result: result_pb2.Result) -> None:
    """Print the summary of a job's result."""
    if result.partial:
        console.print("[yellow]partial: the job has not succeeded[/]")
    if result.HasField("training"):
        _show_training(console, result.training)
    elif result.HasField("validation"):
        _show_validation(console, result.validation)
    elif result.HasField("inference"):
        _show_inference(console, result.inference)


def _show_training(console: Console, training: result_pb2.TrainingResult) -> None:
    stopped = ", stopped early" if training.stopped_early else ""
    epochs = "1 epoch" if training.epochs_completed == 1 else f"{training.epochs_completed} epochs"
    console.print(f"[bold]{epochs}{stopped}; the best was epoch {training.best_epoch}[/]")
    console.print(epochs_table(training))
    for checkpoint in training.checkpoints:
        console.print(f"checkpoint {checkpoint}")


def epochs_table(training: result_pb2.TrainingResult) -> Table:
    """Metrics of the best and the last epoch: one line each, for there may be many."""
    columns = (f"BEST ({training.best_epoch})", f"LAST ({training.epochs_completed})")
    table = plain_table("METRIC", *columns, right=columns)
    for name in _words.ordered({**training.best_metrics, **training.final_metrics}):
        values = (training.best_metrics, training.final_metrics)
        table.add_row(
            escape(name), *(_words.number(metrics[name]) if name in metrics else "" for metrics in values)
        )
    return table


def _show_validation(console: Console, validation: result_pb2.ValidationResult) -> None:
    console.print(f"[bold]{validation.images} images, {validation.instances} labelled objects[/]")
    console.print(metrics_table({"all": validation.metrics}))
    if validation.per_class:
        console.print(per_class_table(validation.per_class))
    if validation.confusion_matrix.labels:
        console.print(confusion_table(validation.confusion_matrix))


def _show_inference(console: Console, inference: result_pb2.InferenceResult) -> None:
    failed = f", [red]{inference.failed_images} unreadable[/]" if inference.failed_images else ""
    console.print(
        f"[bold]{inference.total_images} images[/]{failed}, "
        f"{inference.avg_inference_time_ms:.1f} ms each in the network"
    )
    if inference.embedding_dimension:
        console.print(f"vectors of {inference.embedding_dimension} numbers")
    if inference.detections_per_class:
        table = plain_table("CLASS", "FOUND", right=("FOUND",))
        for name, count in sorted(inference.detections_per_class.items()):
            table.add_row(escape(name), str(count))
        console.print(table)


def metrics_table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Metrics side by side, one line per row."""
    names = _words.ordered({name: 0.0 for metrics in rows.values() for name in metrics})
    table = plain_table("", *names, right=names)
    for title, metrics in rows.items():
        table.add_row(title, *(_words.number(metrics[name]) if name in metrics else "" for name in names))
    return table


def per_class_table(classes: Sequence[result_pb2.ClassMetrics]) -> Table:
    """Metrics of each class."""
    names = _words.ordered({name: 0.0 for entry in classes for name in entry.metrics})
    table = plain_table("CLASS", "IMAGES", "OBJECTS", *names, right=("IMAGES", "OBJECTS", *names))
    for entry in classes:
        values = (_words.number(entry.metrics[name]) if name in entry.metrics else "" for name in names)
        table.add_row(escape(entry.class_name), str(entry.images), str(entry.instances), *values)
    return table


def confusion_table(matrix: result_pb2.ConfusionMatrix) -> Group:
    """Counts of predicted (rows) against true (columns) classes; zeros are dots."""
    labels = list(matrix.labels)
    title = "confusion matrix"
    if matrix.iou_threshold:  # of detection only
        title += f" (confidence ≥ {matrix.confidence_threshold:g}, IoU ≥ {matrix.iou_threshold:g})"
    table = plain_table("predicted \\ true", *labels, right=labels)
    for row, label in enumerate(labels):
        counts = matrix.counts[row * len(labels) : (row + 1) * len(labels)]
        cells = [_count(count, "green" if column == row else "red") for column, count in enumerate(counts)]
        table.add_row(Text(label), *cells)
    return Group(Text(title, style="bold"), table)  # a table's own title is cut to the table's width


def _count(count: float, style: str) -> Text:
    return Text(f"{count:g}", style=style) if count else Text("·", style="dim")


def predictions_table(predictions: Iterable[result_pb2.ImagePrediction]) -> Table:
    """One line per image: what was found, or why nothing could be."""
    table = plain_table("#", "IMAGE", "FOUND")
    for prediction in predictions:
        table.add_row(str(prediction.index), escape(image_name(prediction)), found_text(prediction))
    return table


def image_name(prediction: result_pb2.ImagePrediction) -> str:
    """The last part of the image's URI."""
    return prediction.image_uri.rstrip("/").rpartition("/")[2] or prediction.image_uri


def found_text(prediction: result_pb2.ImagePrediction) -> Text:
    """The most confident findings in one image."""
    if prediction.HasField("error"):
        return Text(prediction.error.message, style="red")
    found = [_detection_text(entry) for entry in prediction.detections]
    found += [f"{entry.class_name} {entry.confidence:.2f}" for entry in prediction.classifications]
    found += [f"face {face.confidence:.2f}" for face in prediction.faces]
    if prediction.HasField("embedding"):
        numbers = len(prediction.embedding.values)
        found.append(f"vector of {numbers}" if numbers else "vector")
    if not found:
        return Text("nothing", style="dim")
    more = f" +{len(found) - _SHOWN_DETECTIONS}" if len(found) > _SHOWN_DETECTIONS else ""
    return Text(", ".join(found[:_SHOWN_DETECTIONS]) + more)


def _detection_text(found: result_pb2.Detection) -> str:
    """What an object is, how sure the model is of it, and what else it tells of where it is."""
    text = f"{found.class_name} {found.confidence:.2f}"
    if found.HasField("oriented_box"):
        text += f" at {math.degrees(found.oriented_box.angle):.0f}°"
    if found.HasField("mask"):
        covered = sum(_area(polygon.coordinates) for polygon in found.polygons)
        text += f" over {covered / max(1, found.mask.height * found.mask.width):.1%}"
    if found.keypoints:
        seen = sum(point.confidence >= _SEEN for point in found.keypoints)
        text += f" with {seen} of {len(found.keypoints)} points"
    return text


def _area(coordinates: Sequence[float]) -> float:
    """Of a polygon, by the shoelace formula."""
    points = list(zip(coordinates[::2], coordinates[1::2], strict=True))
    pairs = zip(points, [*points[1:], *points[:1]], strict=True)
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs)) / 2


def artifacts_table(artifacts: Iterable[result_pb2.Artifact]) -> Table:
    """One line per file."""
    table = plain_table("ARTIFACT", "TYPE", "SIZE", right=("SIZE",))
    for artifact in artifacts:
        table.add_row(artifact.name, artifact.content_type, _words.size(artifact.size_bytes))
    return table


def runner_text(runner: runner_pb2.Runner) -> str:
    """What a runner has, in one line."""
    capacity = runner.capacity
    gpus = ", ".join(gpu.model for gpu in capacity.gpus) or "no GPU"
    memory = f"{capacity.memory_bytes / 2**30:.0f} GiB"
    slots = "1 job at a time" if capacity.slots == 1 else f"{capacity.slots} jobs at a time"
    return (
        f"{runner.name}: {runner.framework} {runner.framework_version} on {capacity.cpus:g} CPU cores, "
        f"{memory}, {gpus}; {slots}"
    )


def runners_table(runners: Iterable[runner_pb2.Runner], now: datetime) -> Table:
    """One line per runner."""
    table = plain_table("RUNNER", "STATE", "FRAMEWORK", "RUNS", "CPUS", "MEMORY", "GPUS", "HEARD", "LABELS")
    for runner in runners:
        capacity = runner.capacity
        table.add_row(
            runner.name,
            _words.styled_runner_state(runner.state),
            escape(f"{runner.framework} {runner.framework_version}".rstrip()),
            f"{len(runner.attempts)} of {capacity.slots}",
            f"{capacity.cpus:g}",
            f"{capacity.memory_bytes / 2**30:.0f} GiB",
            escape(", ".join(gpu.model for gpu in capacity.gpus)) or "none",
            f"{_words.age(runner.heartbeat_time, now)} ago",
            escape(" ".join(f"{key}={value}" for key, value in sorted(runner.labels.items()))),
        )
    return table


def explanation(job: str, answer: job_pb2.ExplainJobResponse) -> Group:
    """Why a job is where it is."""
    parts: list[RenderableType] = [
        f"[bold]{job}[/] {_words.styled_state(answer.state)}",
        Text(answer.summary),
    ]
    if len(answer.waiting_for) > 1:  # the summary has told a single one
        waits = plain_table("WAITS FOR", "")
        for reason in answer.waiting_for:
            until = f" (until {reason.until_time.ToJsonString()})" if reason.HasField("until_time") else ""
            waits.add_row(reason.reason, escape(reason.message + until))
        parts.append(waits)
    if answer.runners:
        verdicts = plain_table("RUNNER", "TAKES IT", "")
        for verdict in answer.runners:
            takes = "[green]yes[/]" if verdict.fits else "[yellow]no[/]"
            text = verdict.message.removeprefix(f"{verdict.runner} ")
            verdicts.add_row(verdict.runner, takes, escape(text))
        parts.append(verdicts)
    return Group(*parts)


def checks_table(checks: Iterable[Check]) -> Table:
    """What an audit looked at, and what is wrong."""
    table = plain_table("CHECK", "", "LOOKED AT, AND FOUND")
    for check in checks:
        table.add_row(
            check.name, "[bold red]wrong[/]" if check.problems else "[green]ok[/]", escape(check.summary)
        )
        for problem in check.problems:
            table.add_row("", "", Text(problem, style="red"))
    return table


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without lines; the columns in `right` are aligned there."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(escape(column), justify=justify, no_wrap=column in _WHOLE)
    return table
