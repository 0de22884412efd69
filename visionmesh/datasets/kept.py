"""Labels that were read once, kept beside a dataset for the next job.

Only where somebody has made a folder for it, `{dataset}.labels`: an agent does, in its cache of datasets by
content. Inside of a dataset such a file would be a stranger's.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from visionmesh.datasets.formats import Format, format_of
from visionmesh.datasets.report import DatasetReport, SplitReport

KEPT_SUFFIX = ".labels"


def kept_beside(folder: Path) -> Path:
    """Where the labels of a dataset are kept, if that folder is there."""
    return folder.with_name(folder.name + KEPT_SUFFIX)


def layout_of(folder: Path) -> Format:
    """The layout of `folder`, whose check and labels are read from what is kept if they can be."""
    layout, place = format_of(folder), kept_beside(folder)
    if not place.is_dir():
        return layout

    def check(folder: Path, *, open_images: bool = False) -> DatasetReport:
        if open_images:
            return layout.check(folder, open_images=True)
        kept = place / f"report-{_version()}.json"
        if kept.is_file():
            with suppress(KeyError, TypeError, ValueError):  # of other code under the same version
                return _report(json.loads(kept.read_bytes()))
        report = layout.check(folder)
        if not report.problem_count:
            _write(kept, [json.dumps(asdict(report))])
        return report

    def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str | None]]:
        kept = place / f"{split}-{task or 'any'}-{_version()}.jsonl"
        if not kept.is_file():
            found = layout.labelled_images(folder, split, task)
            _write(
                kept, (json.dumps([image.relative_to(folder).as_posix(), *told]) for image, *told in found)
            )
        with kept.open(encoding="utf-8") as file:
            for line in file:
                path, inner, labels = json.loads(line)
                yield folder / path, inner, labels

    return replace(layout, check=check, labelled_images=labelled_images)


def _version() -> str:
    """Another version of this code may read labels otherwise."""
    return version("visionmesh")


def _report(told: dict[str, Any]) -> DatasetReport:
    """What asdict has made of a report without problems."""
    splits = [
        SplitReport(**{**split, "class_instances": tuple(split["class_instances"])})
        for split in told["splits"]
    ]
    shape = told["keypoint_shape"]
    lists = {key: tuple(told[key]) for key in ("tasks", "keypoint_names", "flip_indices")}
    return DatasetReport(
        **{**told, **lists, "splits": splits, "keypoint_shape": tuple(shape) if shape else None}
    )


def _write(target: Path, lines: Any) -> None:
    """All or nothing: a job process may be killed at any time, and two may write at once."""
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    Path(name).replace(target)
