"""Where the files of a COCO dataset lie: those that list a split, and the images that these name."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from visionmesh.datasets.report import SPLIT_FOLDERS, SPLITS, split_of

_IN_FOLDER = re.compile(r"(?:instances_|person_keypoints_)?(train|val|valid|test)(?:20\d\d)?\.json")
_BESIDE_IMAGES = "_annotations.coco.json"
_WHOLE_IN_FOLDER = ("instances.json", "instances_default.json", "annotations.json")
_WHOLE = ("annotations.json", "instances.json", _BESIDE_IMAGES)
_YEARS = ("", "2017", "2014")


def listings(folder: Path) -> dict[str, Path]:
    """The file that lists each split."""
    found: dict[str, Path] = {}
    for path in sorted((folder / "annotations").glob("*.json")):
        if (match := _IN_FOLDER.fullmatch(path.name)) is not None:
            found.setdefault(str(split_of(match[1])), path)
    for split in SPLITS:
        for name in SPLIT_FOLDERS[split]:
            if (folder / name / _BESIDE_IMAGES).is_file():
                found.setdefault(split, folder / name / _BESIDE_IMAGES)
    return {split: found[split] for split in SPLITS if split in found}


def whole_listing(folder: Path) -> Path | None:
    """The file that lists the images of a dataset without splits."""
    places = (folder / "annotations" / name for name in _WHOLE_IN_FOLDER)
    return next((path for path in (*places, *(folder / name for name in _WHOLE)) if path.is_file()), None)


def find(folder: Path, split: str, beside: Path, file_name: Any) -> Path | None:
    """The file of a listed image, inside the dataset."""
    if not isinstance(file_name, str) or not file_name or "\0" in file_name:
        return None
    inner = PurePosixPath(file_name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts:
        return None
    names = [name + year for name in SPLIT_FOLDERS[split] for year in _YEARS]
    places = [folder / "images" / name for name in names] + [folder / name for name in names]
    for place in (*places, folder / "images", beside, folder):
        if (place / inner).is_file():
            return place / inner
    return None


def within(path: Path, folder: Path, split: str) -> str:
    """The path of an image within its split."""
    parts = list(path.relative_to(folder).parts)
    names = {name + year for name in SPLIT_FOLDERS[split] for year in _YEARS}
    if parts[0] == "images":
        parts = parts[1:]
    if len(parts) > 1 and parts[0] in names:
        parts = parts[1:]
    return "/".join(parts)
