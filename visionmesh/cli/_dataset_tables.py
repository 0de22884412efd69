"""Tables about datasets, for people."""

import shlex
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from visionmesh.cli import _words
from visionmesh.cli._tables import plain_table
from visionmesh.datasets.formats import Examined
from visionmesh.datasets.report import DatasetReport
from visionmesh.v1 import dataset_pb2, vision_pb2

_SPLITS = ("train", "val", "test")
_NUMBERS = ("IMAGES", "LABELLED", "OBJECTS")


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
    splits = plain_table("SPLIT", *_NUMBERS, right=_NUMBERS)
    for split in dataset.splits:
        numbers = (split.images, split.labelled_images, split.instances)
        splits.add_row(escape(split.name), *(str(number) for number in numbers))
    layout = dataset_pb2.DatasetFormat.Name(dataset.format).removeprefix("DATASET_FORMAT_").lower()
    head = f"{dataset.name or 'a dataset'}: {layout}, {_task(dataset)}, {_words.size(dataset.size_bytes)}"
    return Group(Text(head, style="bold"), _classes(dataset.class_names), splits)


def report_view(source: Path, found: Examined | None, report: DatasetReport) -> Group:
    """What a check of `source` found; None if it could not be unpacked."""
    parts: list[RenderableType] = []
    if found is not None:
        made = "; it has no splits: one image in five is taken for val" if found.was_split else ""
        parts.append(Text(f"layout   {found.layout.name}, for {report.task}{made}"))
    if report.splits:
        splits = plain_table("SPLIT", *_NUMBERS, right=_NUMBERS)
        for split in report.splits:
            numbers = (split.images, split.labelled_images, split.instances)
            splits.add_row(split.name, *(str(number) for number in numbers))
        parts += [_classes(report.class_names), splits]
    if not report.problem_count:
        send = f"vmesh datasets create {shlex.quote(str(source))}"
        return Group(*parts, f"[green]Nothing is wrong.[/] Send it: {escape(send)}")
    problems = plain_table("FILE", "PROBLEM")
    for problem in report.problems:
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        problems.add_row(escape(where), Text(problem.message, style="red"))
    counted = "1 problem" if report.problem_count == 1 else f"{report.problem_count} problems"
    hidden = report.problem_count - len(report.problems)
    more = f"; the first {len(report.problems)} are shown" if hidden else ""
    return Group(*parts, problems, f"[red]{counted}{more}.[/] Mend them, then check again.")


def _classes(names: Iterable[str]) -> Text:
    return Text("classes  " + ", ".join(names))


def _task(dataset: dataset_pb2.Dataset) -> str:
    return vision_pb2.Task.Name(dataset.task).removeprefix("TASK_").lower()
