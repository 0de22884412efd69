"""Tables about datasets, for people."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from visionmesh.cli import _words
from visionmesh.cli._tables import plain_table
from visionmesh.datasets.formats import Examined
from visionmesh.datasets.report import DatasetReport
from visionmesh.v1 import dataset_pb2, vision_pb2

_SHOWN_CLASSES = 30
_SPLITS = ("train", "val", "test")
_NUMBERS = ("IMAGES", "LABELLED", "OBJECTS")


class _Split(Protocol):
    """What a split tells, as message or in a report."""

    @property
    def name(self) -> str: ...
    @property
    def images(self) -> int: ...
    @property
    def labelled_images(self) -> int: ...
    @property
    def instances(self) -> int: ...
    @property
    def class_instances(self) -> Sequence[int]: ...


def datasets_table(datasets: Iterable[dataset_pb2.Dataset], now: datetime) -> Table:
    """One line per dataset; images per split."""
    counts = tuple(split.upper() for split in _SPLITS)
    table = plain_table("DATASET", "TASK", "CLASSES", *counts, "SIZE", "AGE", "NAME", right=(*counts, "SIZE"))
    for dataset in datasets:
        images = {split.name: split.images for split in dataset.splits}
        table.add_row(
            dataset.name,
            _task(dataset),
            str(len(dataset.class_names)),
            *(str(images[split]) if split in images else "" for split in _SPLITS),
            _words.size(dataset.size_bytes),
            _words.age(dataset.create_time, now),
            escape(dataset.display_name),
        )
    return table


def dataset_view(dataset: dataset_pb2.Dataset) -> Group:
    """Everything about one dataset."""
    layout = dataset_pb2.DatasetFormat.Name(dataset.format).removeprefix("DATASET_FORMAT_").lower()
    head = f"{dataset.name or 'a dataset'}: {layout}, {_task(dataset)}, {_words.size(dataset.size_bytes)}"
    parts: list[RenderableType] = [Text(head, style="bold"), _splits(dataset.splits)]
    if dataset.keypoint_names:
        parts.append(Text("keypoints  " + ", ".join(dataset.keypoint_names)))
    return Group(*parts, *_classes(dataset.class_names, dataset.splits))


def report_view(source: Path, found: Examined | None, report: DatasetReport, limit: int) -> Group:
    """What a check of `source` found, with up to `limit` problems; None if it could not be unpacked."""
    parts: list[RenderableType] = []
    if found is not None:
        made = "; it has no splits: one image in five is taken for val" if found.was_split else ""
        parts.append(Text(f"layout   {found.layout.name}, for {report.task}{made}"))
    if report.keypoint_shape:
        named = f": {', '.join(report.keypoint_names)}" if report.keypoint_names else ""
        parts.append(Text(f"keypoints  {report.keypoint_shape[0]}{named}"))
    if report.splits:
        parts += [_splits(report.splits), *_classes(report.class_names, report.splits)]
    if not report.problem_count:
        send = f"vmesh datasets create {shlex.quote(str(source))}"
        return Group(*parts, f"[green]Nothing is wrong.[/] Send it: {escape(send)}")
    return Group(*parts, *_problems(report, limit or len(report.problems)))


def _problems(report: DatasetReport, limit: int) -> list[RenderableType]:
    problems = plain_table("FILE", "PROBLEM")
    for problem in report.problems[:limit]:
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        problems.add_row(escape(where), Text(problem.message, style="red"))
    counted = "1 problem" if report.problem_count == 1 else f"{report.problem_count} problems"
    shown = min(limit, len(report.problems))
    more = f"; the first {shown} are shown, --limit 0 shows all" if report.problem_count > shown else ""
    return [problems, f"[red]{counted}{more}.[/] Mend them, then check again."]


def _splits(splits: Iterable[_Split]) -> Table:
    table = plain_table("SPLIT", *_NUMBERS, right=_NUMBERS)
    for split in splits:
        numbers = (split.images, split.labelled_images, split.instances)
        table.add_row(escape(split.name), *(str(number) for number in numbers))
    return table


def _classes(names: Sequence[str], splits: Sequence[_Split]) -> list[RenderableType]:
    """Objects by class and split; names alone where nobody has counted."""
    counted = [split for split in splits if len(split.class_instances) == len(names)]
    if not counted:
        return [Text("classes  " + ", ".join(names))]
    columns = [split.name.upper() for split in counted]
    table = plain_table("CLASS", *columns, right=columns)
    for class_id, name in enumerate(names[:_SHOWN_CLASSES]):
        table.add_row(escape(name), *(str(split.class_instances[class_id]) for split in counted))
    hidden = len(names) - _SHOWN_CLASSES
    return (
        [table, Text(f"and {hidden} classes more: -o json has all", style="dim")] if hidden > 0 else [table]
    )


def _task(dataset: dataset_pb2.Dataset) -> str:
    return vision_pb2.Task.Name(dataset.task).removeprefix("TASK_").lower()
