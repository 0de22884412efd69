"""The YOLO layout for detection: images/{split}/…, labels/{split}/… and the class names.

A label file holds one object per line: `class x_center y_center width height`, the class as an
index from 0, the rest as shares of the image's width and height. Class names come from the
`names` of data.yaml, or one per line from classes.txt. The form {split}/images, {split}/labels is
read too, and `valid` is taken for `val`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from visionmesh.datasets import _names
from visionmesh.datasets.images import images_below, refused_images
from visionmesh.datasets.report import SPLIT_FOLDERS, SPLITS, DatasetReport, SplitReport, split_of

_FIELDS = 5
_MAX_LABEL_BYTES = 16 * 2**20  # a line has about 40 bytes: some 400,000 objects in one image
_SHOWN = 40
_CLASS = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,9})?")


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Read every label below `folder`, and with `open_images` the header of every image."""
    report = DatasetReport()
    try:
        report.class_names = read_class_names(folder)
    except ValueError as error:
        file, _, message = str(error).partition(": ")
        report.add_problem(file, 0, message)
    for split in SPLITS:
        _refuse_second_folders(folder, split, report)
        found = _check_split(folder, split, report)
        if open_images:
            _check_images(folder, split, report)
        if found is not None and found.images:
            report.splits.append(found)
    if not report.splits:
        text = "no images were found; put them into images/train, images/val and, if you like, images/test"
        report.add_problem("images", 0, text)
    return report


def labelled_images(folder: Path, split: str) -> Iterator[tuple[Path, str, str | None]]:
    """(image, its path within the split, its label file's text if it has one) of a checked folder."""
    place = _image_folder(folder, split)
    if place is None:
        return
    labels = _label_folder(place, folder)
    for image in images_below(place):
        inner = image.relative_to(place)
        label = labels / inner.with_suffix(".txt")
        yield image, inner.as_posix(), label.read_text("utf-8", "replace") if label.is_file() else None


def standard_paths(folder: Path) -> Mapping[str, str]:
    """Where each file belongs in the first layout."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return {name: standard_path(name) for name in names}


def read_class_names(folder: Path) -> list[str]:
    """Class names by class id. Raises ValueError("file: what is wrong")."""
    return _names.read(folder)


def images_of(folder: Path, split: str) -> list[Path]:
    """The images of one split, sorted by path; empty if there is no such split."""
    found = _image_folder(folder, split)
    return [] if found is None else images_below(found)


def _image_folder(folder: Path, split: str) -> Path | None:
    return next(iter(_candidates(folder, split, "images")), None)


def _candidates(folder: Path, split: str, content: str) -> list[Path]:
    """Folders that may hold the `content` ("images" or "labels") of a split, the first one preferred."""
    names = SPLIT_FOLDERS.get(split, (split,))
    places = [place for name in names for place in (folder / content / name, folder / name / content)]
    return [place for place in places if place.is_dir()]


def _refuse_second_folders(folder: Path, split: str, report: DatasetReport) -> None:
    """Only one place is read for each split: what lies at another would be left out in silence."""
    images = _candidates(folder, split, "images")
    for place in images[1:]:
        if images_below(place):
            text = f"split {split!r} is already in {_shown(images[0], folder)}; move these images there"
            report.add_problem(_shown(place, folder), 0, text)
    read = [_label_folder(place, folder) for place in images]
    for place in _candidates(folder, split, "labels"):
        if place not in read and next(place.rglob("*.txt"), None) is not None:
            wanted = _shown(images[0], folder) if images else f"images/{split}"
            text = f"there are labels here, but no images for them; put the images into {wanted}"
            report.add_problem(_shown(place, folder), 0, text)


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _label_folder(images: Path, folder: Path) -> Path:
    """Where the labels of the images in `images` are: the last "images" of the path becomes "labels"."""
    parts = list(images.relative_to(folder).parts)
    at = len(parts) - 1 - parts[::-1].index("images")
    parts[at] = "labels"
    return folder.joinpath(*parts)


def standard_path(path: str) -> str:
    """Where a file belongs in the first layout: valid/labels/a.txt becomes labels/val/a.txt."""
    parts = list(PurePosixPath(path).parts)
    if len(parts) > 2 and split_of(parts[0]) and parts[1] in {"images", "labels"}:
        parts[0], parts[1] = parts[1], parts[0]
    if len(parts) > 2 and parts[0] in {"images", "labels"}:
        parts[1] = split_of(parts[1]) or parts[1]
    return "/".join(parts)


def _check_split(folder: Path, split: str, report: DatasetReport) -> SplitReport | None:
    images_folder = _image_folder(folder, split)
    if images_folder is None:
        return None
    images = images_below(images_folder)
    labels_folder = _label_folder(images_folder, folder)
    expected: dict[Path, Path] = {}
    for image in images:
        label = labels_folder / image.relative_to(images_folder).with_suffix(".txt")
        if label in expected:
            text = f"it shares the label file of {expected[label].name}; give one of the two another name"
            report.add_problem(_shown(image, folder), 0, text)
        expected.setdefault(label, image)
    labelled = instances = 0
    for path in sorted(labels_folder.rglob("*.txt")):
        name = _shown(path, folder)
        if path not in expected:
            where = _shown(images_folder, folder)
            report.add_problem(name, 0, f"there is no image for it in {where}; add one, or remove the labels")
            continue
        labelled += 1
        instances += _check_labels(path, name, report)
    return SplitReport(split, len(images), labelled, instances)


def _check_images(folder: Path, split: str, report: DatasetReport) -> None:
    place = _image_folder(folder, split)
    if place is not None:
        for image, problem in refused_images(place):
            report.add_problem(_shown(image, folder), 0, problem)


def _check_labels(path: Path, name: str, report: DatasetReport) -> int:
    """Check one label file; returns how many objects it holds."""
    if path.stat().st_size > _MAX_LABEL_BYTES:
        report.add_problem(name, 0, f"it is no label file: it has more than {_MAX_LABEL_BYTES} bytes")
        return 0
    instances = 0
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        instances += 1
        for message in _line_problems(line, len(report.class_names)):
            report.add_problem(name, number, message)
    return instances


def _line_problems(line: str, classes: int) -> Iterator[str]:
    fields = line.split()
    if len(fields) != _FIELDS:
        yield f"expected `class x_center y_center width height`, got {len(fields)} fields"
        return
    if not _CLASS.fullmatch(fields[0]):
        yield f"the class must be a whole number from 0, got {_cut(fields[0])!r}"
    elif classes and int(fields[0]) >= classes:
        yield f"class {fields[0]} does not exist; there are {classes} classes, 0 to {classes - 1}"
    for label, text in zip(("x_center", "y_center", "width", "height"), fields[1:], strict=True):
        value = _number(text)
        if value is None:
            yield f"{label} must be a finite number, got {_cut(text)!r}"
        elif not 0 <= value <= 1:
            yield f"{label} must be a share of the image from 0 to 1, got {_cut(text)} (pixels?)"
        elif value == 0 and label in {"width", "height"}:
            yield f"{label} must be above 0"


def _number(text: str) -> float | None:
    """A finite number as every reader of labels takes it: float() alone would take 1_0 as well."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def write_data_yaml(folder: Path, report: DatasetReport, target: Path) -> None:
    """Write a data.yaml of our own: absolute paths and names, and nothing that could be executed."""
    content: dict[str, object] = {"path": str(folder.resolve())}
    for split in report.splits:
        images = _image_folder(folder, split.name)
        if images is not None:
            content[split.name] = str(images.resolve())
    content["names"] = dict(enumerate(report.class_names))
    target.write_text(_names.as_yaml(content), "utf-8")
