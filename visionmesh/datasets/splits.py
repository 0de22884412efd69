"""Splits for datasets that come without: one image in five is for validation, the rest to train on.

Which ones follows from a seed, the names of the images without their folders, and their classes, so the
same images are split alike in whatever layout they come.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from visionmesh.datasets import _coco_files, _data_yaml, coco, images_json, yolo
from visionmesh.datasets._stratified import share_out
from visionmesh.datasets.images import TRAINING_SUFFIXES, images_below
from visionmesh.datasets.report import SPLIT_FOLDERS, DatasetReport, split_of

_FOLDERS = {name for names in SPLIT_FOLDERS.values() for name in names}
_KNOWN = {"images", "labels", "annotations", *_FOLDERS}


@dataclass(frozen=True)
class Plan:
    """Where each file of a dataset without splits belongs."""

    places: Mapping[str, str] = field(default_factory=dict)
    """By its path now; a file that is not here is left out."""

    written: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    """Files to write: the path of what each is made from, and its content."""

    told: bool = False
    """The files themselves tell the split of each image."""

    def __bool__(self) -> bool:
        return bool(self.places)


def plan(folder: Path) -> Plan:
    """How to split a dataset; nothing if it has splits, or no known layout.

    Four layouts come without: images/ with labels/ or annotations/ beside it, one file per image; one file
    that lists all images, as COCO has it; one folder of images per class.
    """
    if _split_below(folder) or _split_below(folder / "images") or _coco_files.listings(folder):
        return Plan()
    listing = _coco_files.whole_listing(folder)
    if listing is not None and not _data_yaml.is_there(folder):  # with names it is taken for YOLO
        return _plan_coco(folder, listing)
    if not (folder / "images").is_dir():
        return _plan_class_folders(folder)
    if (folder / "annotations").is_dir() and not (folder / "labels").is_dir():
        return _plan_paired(folder, "annotations", _classes_in_json)
    names = _data_yaml.told(folder, DatasetReport()).class_names
    return _plan_paired(folder, "labels", lambda labels: (_classes_in_lines(labels, names), None))


def _split_below(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in _FOLDERS)


def _plan_paired(folder: Path, kind: str, read: Callable[[Path], tuple[Collection[str], str | None]]) -> Plan:
    """`read` gives the classes in a file of labels, and the split that it tells."""
    root, suffix = (
        folder / "images",
        images_json.FOLDERS.suffix if kind == "annotations" else yolo.FOLDERS.suffix,
    )
    classes, told = dict[str, Collection[str]](), dict[str, str]()
    for image in images_below(root):
        inner = image.relative_to(root).with_suffix("").as_posix()
        labels = folder / kind / (inner + suffix)
        classes[inner], split = read(labels) if labels.is_file() else ((), None)
        if split is not None:
            told[inner] = split
    shared = {inner: told.get(inner, "train") for inner in classes} if told else share_out(classes)
    places = {}
    for name in _files(folder):
        first, _, inner = name.partition("/")
        found = shared.get(_stem(inner)) if first in {"images", kind} else None
        places[name] = f"{first}/{found}/{inner}" if found else name
    return Plan(places, told=bool(told)) if shared else Plan()


def _classes_in_lines(labels: Path, names: Collection[str]) -> set[str]:
    """The classes in a file of lines, which may be no good: that is found out later."""
    if labels.stat().st_size > yolo.MAX_LABEL_BYTES:
        return set()
    numbered = dict(enumerate(names))
    words = (line.split(maxsplit=1) for line in labels.read_text("utf-8", "replace").splitlines())
    numbers = (first[0] for first in words if first)
    return {numbered.get(int(text), text) if text.isdecimal() else text for text in numbers}


def _classes_in_json(labels: Path) -> tuple[set[str], str | None]:
    content = _loaded(labels, images_json.MAX_BYTES)
    split = split_of(str(content.get("split")))
    return set(images_json.class_names_in(content)), split


def _plan_coco(folder: Path, listing: Path) -> Plan:
    """Two files that list the images in place of the one."""
    content, name = _loaded(listing, coco.MAX_BYTES), listing.relative_to(folder).as_posix()
    places = {path: path for path in _files(folder) if path != name}
    images, annotations = _entries(content, "images"), _entries(content, "annotations")
    shared = share_out(_classes_by_file(content, images, annotations))
    if not shared:  # what is wrong with it is told later
        return Plan(places | {name: "annotations/instances_train.json"})
    by_id = {_key(entry.get("id")): shared.get(str(entry.get("file_name")), "train") for entry in images}
    written = {}
    for split in sorted(set(shared.values())):
        part = content | {
            "images": [entry for entry in images if by_id[_key(entry.get("id"))] == split],
            "annotations": [
                entry for entry in annotations if by_id.get(_key(entry.get("image_id")), "train") == split
            ],
        }
        written[f"annotations/instances_{split}.json"] = (name, json.dumps(part).encode())
    return Plan(places, written)


def _classes_by_file(
    content: Mapping[str, Any], images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Collection[str]]:
    names = {_key(entry.get("id")): str(entry.get("name")) for entry in _entries(content, "categories")}
    by_image: defaultdict[str, set[str]] = defaultdict(set)
    for entry in annotations:
        if not entry.get("iscrowd"):
            by_image[_key(entry.get("image_id"))].add(names.get(_key(entry.get("category_id")), ""))
    return {str(entry.get("file_name")): by_image[_key(entry.get("id"))] for entry in images}


def _entries(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = content.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _key(value: Any) -> str:
    """Ids may be anything in a file that is no good."""
    return json.dumps(value)


def _loaded(path: Path, max_bytes: int) -> dict[str, Any]:
    """The object in a file; empty if there is none, or the file is too large: that is told later."""
    if path.stat().st_size > max_bytes:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _plan_class_folders(folder: Path) -> Plan:
    classes = {}
    for name in _files(folder):
        first, _, inner = name.partition("/")
        if inner and first not in _KNOWN and PurePosixPath(name).suffix.lower() in TRAINING_SUFFIXES:
            classes[name] = (first,)
    if len(set(classes.values())) < 2:
        return Plan()
    shared = share_out(classes)
    return Plan({name: f"{shared[name]}/{name}" if name in shared else name for name in _files(folder)})


def _stem(inner: str) -> str:
    return PurePosixPath(inner).with_suffix("").as_posix()


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
