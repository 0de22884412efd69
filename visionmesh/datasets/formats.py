"""Layouts of datasets, which of them a folder has, and what is wrong with it."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from visionmesh.datasets import _data_yaml, class_folders, coco, images_json, splits, yolo
from visionmesh.datasets.report import DatasetReport, Problem


class Check(Protocol):
    """Reads a folder in one layout."""

    def __call__(self, folder: Path, *, open_images: bool = False) -> DatasetReport:
        """What it holds and what is wrong; with `open_images` the header of every image is read."""


class Read(Protocol):
    """Reads the labels of a folder in one layout."""

    def __call__(self, folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str | None]]:
        """(image, its path within the split, its labels if it has any) of a folder that was checked.

        The labels are the text of a YOLO file for `task`, which is one of the report's; "" for its first.
        """


@dataclass(frozen=True)
class Format:
    """One layout."""

    name: str
    """As in DatasetFormat, in lower case."""

    check: Check

    labelled_images: Read

    standard_paths: Callable[[Path], Mapping[str, str]]
    """Where each file of a checked folder belongs, of those places where the layout lets it lie."""

    def standardize(self, folder: Path) -> Mapping[str, str]:
        """Move the files of a checked folder to where they belong; each file's new path by its old."""
        places = self.standard_paths(folder)
        moved = [(name, wanted) for name, wanted in places.items() if wanted != name]
        aside = Path(tempfile.mkdtemp(dir=folder))  # the place of one file may be that of another
        for number, (name, _) in enumerate(moved):
            (folder / name).rename(aside / str(number))
        for number, (_, wanted) in enumerate(moved):
            (folder / wanted).parent.mkdir(parents=True, exist_ok=True)
            (aside / str(number)).rename(folder / wanted)
        aside.rmdir()
        return places


@dataclass(frozen=True)
class Examined:
    """What a folder turned out to be."""

    layout: Format
    report: DatasetReport

    folder: Path
    """Where it lies with its splits."""

    was_split: bool
    """It had none, and they were made."""

    places: Mapping[str, str]
    """Each file's path below `folder` by its path in the folder that was given."""


def examine(folder: Path, scratch: Path) -> Examined:
    """Find out the layout of `folder` and what is wrong with it, the header of every image included.

    A dataset without splits gets them: a view of it, made of links, below `scratch`. Problems are told of
    the files as they are in `folder`.
    """
    plan = splits.plan(folder)
    for name, place in plan.places.items():
        (scratch / place).parent.mkdir(parents=True, exist_ok=True)
        (scratch / place).symlink_to((folder / name).absolute())
    for place, (_, content) in plan.written.items():
        (scratch / place).parent.mkdir(parents=True, exist_ok=True)
        (scratch / place).write_bytes(content)
    root = scratch if plan else folder
    layout = format_of(root)
    report = layout.check(root, open_images=True)
    before = {place: name for name, place in plan.places.items()}
    made = {place: name for place, (name, _) in plan.written.items()}
    if plan:
        told = (_as_it_was(problem, before, made) for problem in report.problems)
        report.problems = sorted(told, key=lambda problem: (problem.file, problem.line))
    return Examined(layout, report, root, bool(plan) and not plan.told, plan.places)


def _as_it_was(problem: Problem, before: Mapping[str, str], made: Mapping[str, str]) -> Problem:
    if problem.file in made:  # another file's lines are not those of the one that was sent
        return replace(problem, file=made[problem.file], line=0)
    return replace(problem, file=before.get(problem.file, problem.file))


YOLO = Format("yolo", yolo.check_folder, yolo.labelled_images, yolo.FOLDERS.standard_paths)
COCO = Format("coco", coco.check_folder, coco.labelled_images, coco.standard_paths)
CLASS_FOLDERS = Format(
    "class_folders", class_folders.check_folder, class_folders.labelled_images, class_folders.standard_paths
)

IMAGES_JSON = Format(
    "images_json",
    images_json.check_folder,
    images_json.labelled_images,
    images_json.FOLDERS.standard_paths,
)


def format_of(folder: Path) -> Format:
    """The layout of `folder`; YOLO where it looks like none, so that its check says what is missing."""
    if not (folder / "labels").is_dir() and not coco.is_laid_out(folder) and images_json.is_laid_out(folder):
        return IMAGES_JSON
    if _data_yaml.is_there(folder):
        return YOLO
    if coco.is_laid_out(folder):
        return COCO
    return CLASS_FOLDERS if class_folders.is_laid_out(folder) else YOLO
