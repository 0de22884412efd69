"""Makes a dataset folder safe and ready for ultralytics.

ultralytics pickles label caches next to the labels, obeys scripts in data.yaml, and rewrites JPEG
files that were cut short. So it never sees the folder itself: only a private view of links, with labels
and a data.yaml that we write, and copies of what it would rewrite.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from runners.process.errors import UserError
from runners.pytorch.datasets import refuse_other_task, refuse_problems, refuse_unlabelled
from visionmesh.datasets.formats import Format, format_of


@dataclass(frozen=True)
class Dataset:
    """A dataset that was found to be in order."""

    data_yaml: Path
    """What ultralytics reads."""

    class_names: tuple[str, ...]
    """By class id."""


def prepare(folder: Path | None, work: Path, splits: tuple[str, ...]) -> Dataset:
    """Check `folder`, and make a view of it below `work` in which `splits` are there and labelled.

    Raises UserError that names file and line of what is wrong.
    """
    if folder is None or not folder.is_dir():
        where = "not set" if folder is None else f"{str(folder)!r}, which is no folder"
        raise UserError(
            f"DATASET_PATH is {where}. Set it to a folder with images/train, labels/train and data.yaml."
        )
    layout = format_of(folder)
    report = layout.check(folder)
    refuse_problems(report)
    refuse_other_task(report, "detect")
    for split in splits:
        add = f"Add images/{split} and labels/{split}."
        lines = "with one line per object: class x_center y_center width height."
        refuse_unlabelled(report, split, add, f"Add labels/{split}/*.txt {lines}")
    view = work / "dataset"
    shutil.rmtree(view, ignore_errors=True)  # a killed attempt may have left it
    lists = {split: str(_make_split(layout, folder.absolute(), view, split)) for split in splits}
    # ultralytics wants both, even to measure on a third.
    lists.setdefault("train", lists[splits[0]])
    lists.setdefault("val", lists[splits[0]])
    data = {"path": str(view), **lists, "names": dict(enumerate(report.class_names))}
    data_yaml = view / "data.yaml"
    data_yaml.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return Dataset(data_yaml, tuple(report.class_names))


def _make_split(layout: Format, folder: Path, view: Path, split: str) -> Path:
    """Put the split's images and labels into `view`; the path of a text file that lists the images."""
    listed = []
    for image, inner, labels in layout.labelled_images(folder, split, "detect"):
        link = view / "images" / split / inner
        link.parent.mkdir(parents=True, exist_ok=True)
        if _is_cut_jpeg(image):
            shutil.copyfile(image, link)
        else:
            link.symlink_to(image)
        if labels is not None:
            label = (view / "labels" / split / inner).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(labels, "utf-8")
        listed.append(link)
    listing = view / f"{split}.txt"
    listing.write_text("".join(f"{path}\n" for path in listed))
    return listing


def _is_cut_jpeg(path: Path) -> bool:
    """Whether a JPEG file lacks its end marker."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2))
        return file.read() != b"\xff\xd9"
