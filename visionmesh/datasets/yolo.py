"""The YOLO layout for detection: images/{split}/…, labels/{split}/… and the class names.

A label file holds one object per line: `class x_center y_center width height`, the class as an
index from 0, the rest as shares of the image's width and height. Class names come from the
`names` of data.yaml, or one per line from classes.txt. The form {split}/images, {split}/labels is
read too, and `valid` is taken for `val`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import yaml

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SPLITS = ("train", "val", "test")
MAX_PROBLEMS = 100

_FOLDERS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_FIELDS = 5


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file."""

    file: str
    """Path within the dataset."""
    line: int
    """From 1; 0 for the file as a whole."""
    message: str


@dataclass(frozen=True)
class SplitReport:
    """What is in one split."""

    name: str
    images: int
    labelled_images: int
    """Images with a label file, an empty one included."""
    instances: int


@dataclass
class DatasetReport:
    """What a dataset holds, and what is wrong with it."""

    class_names: list[str] = field(default_factory=list)
    splits: list[SplitReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """The first hundred."""
    problem_count: int = 0

    def add_problem(self, file: str, line: int, message: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(file, line, message))


def check_folder(folder: Path) -> DatasetReport:
    """Read every label below `folder`. Image files are not opened."""
    report = DatasetReport()
    try:
        report.class_names = read_class_names(folder)
    except ValueError as error:
        file, _, message = str(error).partition(": ")
        report.add_problem(file, 0, message)
    for split in SPLITS:
        found = _check_split(folder, split, report)
        if found is not None:
            report.splits.append(found)
    if not report.splits:
        text = "no images were found; put them into images/train, images/val and, if you like, images/test"
        report.add_problem("images", 0, text)
    return report


def read_class_names(folder: Path) -> list[str]:
    """Class names by class id. Raises ValueError("file: what is wrong")."""
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return _names_in_yaml(folder / name)
    classes = folder / "classes.txt"
    if classes.is_file():
        named = [line.strip() for line in classes.read_text("utf-8", "replace").splitlines() if line.strip()]
        if named:
            return named
        raise ValueError("classes.txt: it is empty; write one class name per line")
    raise ValueError("data.yaml: there is none; write one with `names: [first, second, …]`, or a classes.txt")


def _names_in_yaml(path: Path) -> list[str]:
    try:
        content = yaml.safe_load(path.read_text("utf-8", "replace"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: it is not YAML ({str(error).splitlines()[0]})") from None
    named = content.get("names") if isinstance(content, dict) else None
    if isinstance(named, dict):
        if sorted(named) != list(range(len(named))):
            raise ValueError(f"{path.name}: `names` must number the classes 0, 1, 2, … without a gap")
        named = [named[index] for index in range(len(named))]
    if not isinstance(named, list) or not named or not all(isinstance(name, str | int) for name in named):
        raise ValueError(f"{path.name}: it lacks `names`; write `names: [first, second, …]`")
    return [str(name) for name in named]


def images_of(folder: Path, split: str) -> list[Path]:
    """The images of one split, sorted by path; empty if there is no such split."""
    found = _image_folder(folder, split)
    return [] if found is None else _images_in(found)


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def _image_folder(folder: Path, split: str) -> Path | None:
    for name in _FOLDERS.get(split, (split,)):
        for candidate in (folder / "images" / name, folder / name / "images"):
            if candidate.is_dir():
                return candidate
    return None


def _label_folder(images: Path, folder: Path) -> Path:
    """Where the labels of the images in `images` are: the last "images" of the path becomes "labels"."""
    parts = list(images.relative_to(folder).parts)
    at = len(parts) - 1 - parts[::-1].index("images")
    parts[at] = "labels"
    return folder.joinpath(*parts)


def standard_path(path: str) -> str:
    """Where a file belongs in the first layout: valid/labels/a.txt becomes labels/val/a.txt."""
    parts = list(PurePosixPath(path).parts)
    known = {alias: split for split, aliases in _FOLDERS.items() for alias in aliases}
    if len(parts) > 2 and parts[0] in known and parts[1] in {"images", "labels"}:
        parts[0], parts[1] = parts[1], parts[0]
    if len(parts) > 2 and parts[0] in {"images", "labels"} and parts[1] in known:
        parts[1] = known[parts[1]]
    return "/".join(parts)


def _check_split(folder: Path, split: str, report: DatasetReport) -> SplitReport | None:
    images_folder = _image_folder(folder, split)
    if images_folder is None:
        return None
    images = _images_in(images_folder)
    labels_folder = _label_folder(images_folder, folder)
    expected = {
        labels_folder / image.relative_to(images_folder).with_suffix(".txt"): image for image in images
    }
    labelled = instances = 0
    for path in sorted(labels_folder.rglob("*.txt")):
        name = path.relative_to(folder).as_posix()
        if path not in expected:
            report.add_problem(name, 0, f"there is no image for it in {images_folder.relative_to(folder)}")
            continue
        labelled += 1
        instances += _check_labels(path, name, report)
    return SplitReport(split, len(images), labelled, instances)


def _check_labels(path: Path, name: str, report: DatasetReport) -> int:
    """Check one label file; returns how many objects it holds."""
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
    if not fields[0].isdecimal():
        yield f"the class must be a whole number from 0, got {fields[0]!r}"
    elif classes and int(fields[0]) >= classes:
        yield f"class {fields[0]} does not exist; there are {classes} classes, 0 to {classes - 1}"
    for label, text in zip(("x_center", "y_center", "width", "height"), fields[1:], strict=True):
        value = _number(text)
        if value is None:
            yield f"{label} must be a number, got {text!r}"
        elif not 0 <= value <= 1:
            yield f"{label} must be a share of the image from 0 to 1, got {text} (pixels?)"
        elif value == 0 and label in {"width", "height"}:
            yield f"{label} must be above 0"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def write_data_yaml(folder: Path, report: DatasetReport, target: Path) -> None:
    """Write a data.yaml of our own: absolute paths and names, and nothing that could be executed."""
    content: dict[str, object] = {"path": str(folder.resolve())}
    for split in report.splits:
        images = _image_folder(folder, split.name)
        if images is not None:
            content[split.name] = str(images.resolve())
    content["names"] = dict(enumerate(report.class_names))
    target.write_text(yaml.safe_dump(content, sort_keys=False))
