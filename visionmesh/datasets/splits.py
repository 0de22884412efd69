"""Splits for datasets that come without: one image in five is for validation, the rest to train on.

Which ones follows from a seed and the files' names alone, so the same files are always split alike.
Images with the same classes are shared out in the same proportion.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from visionmesh.datasets.images import TRAINING_SUFFIXES, images_below
from visionmesh.datasets.report import SPLIT_FOLDERS

VAL_SHARE = 0.2
SEED = 0

_KNOWN = {"images", "labels", "annotations", *(name for names in SPLIT_FOLDERS.values() for name in names)}


def plan(folder: Path) -> Mapping[str, str]:
    """Where each file of a dataset without splits belongs; empty if it has splits, or no known layout.

    Two layouts come without: images/ with labels/ beside it, one text file per image, and one folder of
    images per class.
    """
    if any((folder / name).is_dir() for names in SPLIT_FOLDERS.values() for name in names):
        return {}
    if (folder / "images").is_dir():
        return _plan_yolo(folder)
    return _plan_class_folders(folder)


def share_out(groups: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Train or val for each name, by group; a group of two or more has at least one of each."""
    shared: dict[str, str] = {}
    owed = 0.0  # what rounding has left over
    for group in sorted(groups):
        names = sorted(groups[group], key=_place_of)
        wanted = len(names) * VAL_SHARE + owed
        count = min(max(round(wanted), 1), len(names) - 1) if len(names) > 1 else 0
        owed = max(-0.5, min(0.5, wanted - count))
        for place, name in enumerate(names):
            shared[name] = "val" if place < count else "train"
    return shared


def _place_of(name: str) -> bytes:
    return hashlib.sha256(f"{SEED}/{name}".encode()).digest()


def _plan_yolo(folder: Path) -> Mapping[str, str]:
    root = folder / "images"
    if any((root / name).is_dir() for names in SPLIT_FOLDERS.values() for name in names):
        return {}
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for image in images_below(root):
        inner = image.relative_to(root).as_posix()
        groups[_classes_in((folder / "labels" / inner).with_suffix(".txt"))].append(inner)
    shared = {_stem(inner): split for inner, split in share_out(groups).items()}
    places = {}
    for name in _files(folder):
        first, _, inner = name.partition("/")
        split = shared.get(_stem(inner)) if first in {"images", "labels"} else None
        places[name] = f"{first}/{split}/{inner}" if split else name
    return places if shared else {}


def _classes_in(label: Path) -> str:
    """The classes of a label file, which may be no good: that is found out later."""
    if not label.is_file():
        return ""
    words = (line.split(maxsplit=1) for line in label.read_text("utf-8", "replace").splitlines())
    return " ".join(sorted({first[0] for first in words if first}))


def _stem(inner: str) -> str:
    return PurePosixPath(inner).with_suffix("").as_posix()


def _plan_class_folders(folder: Path) -> Mapping[str, str]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in _files(folder):
        first, _, inner = name.partition("/")
        if inner and first not in _KNOWN and PurePosixPath(name).suffix.lower() in TRAINING_SUFFIXES:
            groups[first].append(name)
    if len(groups) < 2:
        return {}
    shared = share_out(groups)
    return {name: f"{shared[name]}/{name}" if name in shared else name for name in _files(folder)}


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
