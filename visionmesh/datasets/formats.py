"""Layouts of datasets, and which of them a folder has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from visionmesh.datasets import class_folders, yolo
from visionmesh.datasets.report import DatasetReport


class Check(Protocol):
    """Reads a folder in one layout."""

    def __call__(self, folder: Path, *, open_images: bool = False) -> DatasetReport:
        """What it holds and what is wrong; with `open_images` the header of every image is read."""


@dataclass(frozen=True)
class Format:
    """One layout."""

    name: str
    """As in DatasetFormat, in lower case."""

    task: str
    """What its labels are good for, as in Task, in lower case."""

    check: Check

    standard_path: Callable[[str], str]
    """Where a file belongs, of those places where the layout lets it lie."""

    def standardize(self, folder: Path) -> None:
        """Move the files of `folder` to where `standard_path` says."""
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            name = path.relative_to(folder).as_posix()
            wanted = self.standard_path(name)
            if wanted != name:
                (folder / wanted).parent.mkdir(parents=True, exist_ok=True)
                path.rename(folder / wanted)


YOLO = Format("yolo", "detect", yolo.check_folder, yolo.standard_path)
CLASS_FOLDERS = Format("class_folders", "classify", class_folders.check_folder, class_folders.standard_path)

_CLASS_NAMES = ("data.yaml", "data.yml", "classes.txt")


def format_of(folder: Path) -> Format:
    """The layout of `folder`; YOLO where it looks like none, so that its check says what is missing."""
    has_names = any((folder / name).exists() for name in _CLASS_NAMES)
    return CLASS_FOLDERS if not has_names and class_folders.is_laid_out(folder) else YOLO
