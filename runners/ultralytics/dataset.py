"""Makes a dataset folder safe and ready for ultralytics.

ultralytics pickles label caches next to the labels, obeys scripts in data.yaml, and rewrites JPEG
files that were cut short. So it never sees the folder itself: only a private view of links, with labels
and a data.yaml that we write, and copies of what it would rewrite.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runners.process.errors import UserError
from runners.pytorch.datasets import refuse_other_task, refuse_problems, refuse_unlabelled
from visionmesh.datasets.formats import Format
from visionmesh.datasets.kept import layout_of
from visionmesh.datasets.report import DatasetReport

# What a line of a label file says after the class.
_FORMS = {
    "detect": "x_center y_center width height",
    "segment": "x1 y1 x2 y2 x3 y3 …",
    "pose": "x_center y_center width height x1 y1 visible1 …",
    "obb": "x1 y1 x2 y2 x3 y3 x4 y4",
}


_LONGEST_NAME = 200  # bytes of a folder's name


@dataclass(frozen=True)
class Dataset:
    """A dataset that was found to be in order."""

    source: Path
    """What ultralytics reads: a data.yaml, or the folder above the splits for classify."""

    class_names: tuple[str, ...]
    """By class id."""


def prepare(folder: Path | None, work: Path, splits: tuple[str, ...], task: str) -> Dataset:
    """Check `folder`, and make a view of it below `work` in which `splits` are there and labelled for `task`.

    Raises UserError that names file and line of what is wrong.
    """
    if folder is None or not folder.is_dir():
        where = "not set" if folder is None else f"{str(folder)!r}, which is no folder"
        raise UserError(
            f"DATASET_PATH is {where}. Set it to a folder with images/train, labels/train and data.yaml."
        )
    layout = layout_of(folder)
    report = layout.check(folder)
    refuse_problems(report)
    refuse_other_task(report, task)
    for split in splits:
        refuse_unlabelled(report, split, *_how_to(split, task))
    view = work / "dataset"
    shutil.rmtree(view, ignore_errors=True)  # a killed attempt may have left it
    # ultralytics wants both, even to measure on a third.
    shown = {"train": splits[0], "val": splits[0]} | {split: split for split in splits}
    make = _classes if task == "classify" else _labelled
    source = make(layout, folder.absolute(), view, shown, report, task)
    # ultralytics numbers folders in order of name.
    names = sorted(report.class_names) if task == "classify" else report.class_names
    return Dataset(source, tuple(names))


def _how_to(split: str, task: str) -> tuple[str, str]:
    """How a split is added, and how it is labelled."""
    if task == "classify":
        add = f"Add {split}/CLASS/ folders of images."
        return add, add
    lines = f"with one line per object: class {_FORMS[task]}."
    return f"Add images/{split} and labels/{split}.", f"Add labels/{split}/*.txt {lines}"


def _labelled(
    layout: Format, folder: Path, view: Path, shown: Mapping[str, str], report: DatasetReport, task: str
) -> Path:
    """Make a view with label files; its data.yaml."""
    lists = {split: str(_make_split(layout, folder, view, split, task)) for split in set(shown.values())}
    data: dict[str, Any] = {
        "path": str(view),
        **{split: lists[there] for split, there in shown.items()},
        "names": dict(enumerate(report.class_names)),
    }
    if task == "pose" and report.keypoint_shape is not None:
        data["kpt_shape"] = list(report.keypoint_shape)
        # Who does not know which point is which in a mirror must not flip: ultralytics does not, without it.
        if report.flip_indices:
            data["flip_idx"] = list(report.flip_indices)
        if report.keypoint_names:
            names = report.keypoint_names
            data["kpt_names"] = {number: [*names] for number in range(len(report.class_names))}
    data_yaml = view / "data.yaml"
    data_yaml.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return data_yaml


def _make_split(layout: Format, folder: Path, view: Path, split: str, task: str) -> Path:
    """Put the split's images and labels into `view`; the path of a text file that lists the images."""
    listed = []
    for image, inner, labels in layout.labelled_images(folder, split, task):
        link = view / "images" / split / inner
        _show(image, link)
        if labels is not None:
            label = (view / "labels" / split / inner).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(labels, "utf-8")
        listed.append(link)
    listing = view / f"{split}.txt"
    listing.write_text("".join(f"{path}\n" for path in listed))
    return listing


def _classes(
    layout: Format, folder: Path, view: Path, shown: Mapping[str, str], report: DatasetReport, task: str
) -> Path:
    """Make a view of folders by class, all there in every split; the folder above them."""
    _refuse_folders(report.class_names)
    for split, there in shown.items():
        places = [view / split / name for name in report.class_names]
        for place in places:
            place.mkdir(parents=True)
        for number, (image, _, label) in enumerate(layout.labelled_images(folder, there, task)):
            if label is not None:
                _show(image, places[int(label)] / f"{number:08}{image.suffix}")
    return view


def _refuse_folders(class_names: list[str]) -> None:
    """Raise UserError for a class whose name cannot be that of a folder, or would lead out of its place."""
    for name in class_names:
        if name.startswith(".") or "/" in name or "\0" in name or len(name.encode()) > _LONGEST_NAME:
            text = (
                f"The class {name[:60]!r} cannot be a folder, which ultralytics needs to classify. Rename it."
            )
            raise UserError(text, reason="DATASET_INVALID")
    if len(set(class_names)) < len(class_names):
        text = "Two classes have the same name, and would be one for ultralytics. Rename one of them."
        raise UserError(text, reason="DATASET_INVALID")


def _show(image: Path, link: Path) -> None:
    """Link to an image, or copy it where ultralytics would rewrite it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if _is_cut_jpeg(image):
        shutil.copyfile(image, link)
    else:
        link.symlink_to(image)


def _is_cut_jpeg(path: Path) -> bool:
    """Whether a JPEG file lacks its end marker."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        return file.read() != b"\xff\xd9"
