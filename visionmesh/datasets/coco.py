"""COCO for detection: annotations/instances_{split}.json, and the images that it lists.

Years (`instances_train2017.json`, `train2017/`) and {split}/_annotations.coco.json are understood, and
`valid` is taken for `val`. Images lie in images/{split}/, {split}/ or images/, or beside the file that
lists them. Boxes are [x, y, width, height] in pixels from the upper left corner; crowds (`iscrowd`) are
left out, as YOLO's own converter does. Class ids go by the categories in order of their id.

The format: https://cocodataset.org/#format-data
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from visionmesh.datasets.images import images_below, refused_images, training_size
from visionmesh.datasets.report import SPLIT_FOLDERS, SPLITS, DatasetReport, SplitReport, split_of

_MAX_BYTES = 2 * 2**30
_IN_FOLDER = re.compile(r"(?:instances_)?(train|val|valid|test)(?:20\d\d)?\.json")
_BESIDE_IMAGES = "_annotations.coco.json"
_SLACK = 1.0  # pixels by which a box may stick out: tools round
_SHOWN = 60


@dataclass
class _Image:
    """One listed image."""

    id: Any
    path: Path
    width: float
    height: float
    boxes: list[tuple[int, tuple[float, float, float, float]]] = field(default_factory=list)
    """Class id and x, y, width, height in pixels, cut to the image."""


@dataclass
class _Split:
    """What one file lists."""

    class_names: list[str]
    images: list[_Image]


def is_laid_out(folder: Path) -> bool:
    """Whether `folder` holds a file that lists a split."""
    return bool(_files(folder))


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Read every file that lists a split, and with `open_images` the header of every image."""
    report = DatasetReport()
    listed: dict[Path, str] = {}
    for split, file in _files(folder).items():
        read = _read(folder, split, file, report)
        _compare_classes(read, _shown(file, folder), report)
        for image in read.images:
            before = listed.setdefault(image.path, split)
            if before != split:
                text = f"it is listed in split {before!r} and in {split!r}; leave it in one"
                report.add_problem(_shown(image.path, folder), 0, text)
        if open_images:
            _check_sizes(read, folder, report)
        found = Counter(class_id for image in read.images for class_id, _ in image.boxes)
        if read.images:
            count, per_class = len(read.images), tuple(found[n] for n in range(len(read.class_names)))
            report.splits.append(SplitReport(split, count, count, found.total(), per_class))
    for path in images_below(folder):
        if path not in listed:
            report.add_problem(_shown(path, folder), 0, "no file lists it; list it, or remove it")
    for path, problem in refused_images(folder) if open_images else ():
        report.add_problem(_shown(path, folder), 0, problem)
    return report


def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str]]:
    """(image, its path within the split, its labels as a YOLO file) of a folder that was checked."""
    file = _files(folder).get(split)
    if file is None:
        return
    for image in _read(folder, split, file, DatasetReport()).images:
        lines = [
            f"{class_id} {(x + width / 2) / image.width:.6f} {(y + height / 2) / image.height:.6f} "
            f"{width / image.width:.6f} {height / image.height:.6f}\n"
            for class_id, (x, y, width, height) in image.boxes
        ]
        yield image.path, _within(image.path, folder, split), "".join(lines)


def standard_paths(folder: Path) -> Mapping[str, str]:
    """Where each file belongs: images/{split}/… and annotations/instances_{split}.json."""
    places = {_shown(path, folder): _shown(path, folder) for path in folder.rglob("*") if path.is_file()}
    for split, file in _files(folder).items():
        places[_shown(file, folder)] = f"annotations/instances_{split}.json"
        for image in _read(folder, split, file, DatasetReport()).images:
            name = _shown(image.path, folder)
            places[name] = f"images/{split}/{_within(image.path, folder, split)}"
    return places


def _files(folder: Path) -> dict[str, Path]:
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


def _read(folder: Path, split: str, file: Path, report: DatasetReport) -> _Split:
    """What `file` lists; what is wrong with it is noted and left out."""
    name = _shown(file, folder)
    content = _load(file, name, report)
    numbers, class_names = _categories(content, name, report)
    images = _images(content, folder, split, file, report)
    for annotation in _entries(content, "annotations", name, report):
        _add_box(annotation, numbers, images, name, report)
    return _Split(class_names, list(images.values()))


def _load(file: Path, name: str, report: DatasetReport) -> dict[str, Any]:
    if file.stat().st_size > _MAX_BYTES:
        report.add_problem(name, 0, f"it has more than {_MAX_BYTES} bytes; split the dataset")
        return {}
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        report.add_problem(name, getattr(error, "lineno", 0), f"it is no JSON: {error}")
        return {}
    if not isinstance(content, dict):
        report.add_problem(name, 0, "it must be an object with images, annotations and categories")
        return {}
    return content


def _entries(content: dict[str, Any], key: str, name: str, report: DatasetReport) -> list[dict[str, Any]]:
    """A list of objects with an id each."""
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        report.add_problem(name, 0, f"`{key}` must be a list of objects")
        return []
    return found


def _categories(
    content: dict[str, Any], name: str, report: DatasetReport
) -> tuple[dict[Any, int], list[str]]:
    """Class id by category id, and the names in order."""
    found = [
        (entry["id"], entry["name"])
        for entry in _entries(content, "categories", name, report)
        if isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)
    ]
    if not found:
        report.add_problem(name, 0, "`categories` must list the classes, each with a number as id and a name")
    if len({number for number, _ in found}) < len(found):
        report.add_problem(name, 0, "two of its categories have the same id")
    found.sort()
    return {number: class_id for class_id, (number, _) in enumerate(found)}, [text for _, text in found]


def _images(
    content: dict[str, Any], folder: Path, split: str, file: Path, report: DatasetReport
) -> dict[Any, _Image]:
    """The listed images by id."""
    name, images = _shown(file, folder), dict[Any, _Image]()
    for entry in _entries(content, "images", name, report):
        shown = _cut(entry.get("file_name"))
        path = _find(folder, split, file.parent, entry.get("file_name"))
        width, height = _positive(entry.get("width")), _positive(entry.get("height"))
        if path is None:
            report.add_problem(name, 0, f"image {shown} is not in the dataset; add it below images/{split}")
        elif width is None or height is None:
            report.add_problem(name, 0, f"image {shown} needs width and height in pixels, above 0")
        elif not isinstance(entry.get("id"), int | str) or entry["id"] in images:
            report.add_problem(name, 0, f"image {shown} needs an id of its own")
        else:
            images[entry["id"]] = _Image(entry["id"], path, width, height)
    return images


def _find(folder: Path, split: str, beside: Path, file_name: Any) -> Path | None:
    """The file of a listed image, inside the dataset."""
    if not isinstance(file_name, str) or not file_name or "\0" in file_name:
        return None
    inner = PurePosixPath(file_name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts:
        return None
    names = [name + year for name in SPLIT_FOLDERS[split] for year in ("", "2017", "2014")]
    places = [folder / "images" / name for name in names] + [folder / name for name in names]
    for place in (*places, folder / "images", beside, folder):
        if (place / inner).is_file():
            return place / inner
    return None


def _add_box(
    annotation: dict[str, Any],
    numbers: Mapping[Any, int],
    images: Mapping[Any, _Image],
    name: str,
    report: DatasetReport,
) -> None:
    """Add one box to its image, or note what is wrong with it."""
    which = f"annotation {str(annotation.get('id'))[:_SHOWN]}"
    image, class_id = (
        _lookup(images, annotation.get("image_id")),
        _lookup(numbers, annotation.get("category_id")),
    )
    box = annotation.get("bbox")
    if annotation.get("iscrowd"):
        return
    if image is None:
        report.add_problem(name, 0, f"{which}: there is no image {_cut(annotation.get('image_id'))}")
    elif class_id is None:
        report.add_problem(name, 0, f"{which}: there is no category {_cut(annotation.get('category_id'))}")
    elif (problem := _box_problem(box, image)) is not None:
        report.add_problem(name, 0, f"{which}: {problem}")
    else:
        x, y, width, height = map(float, box)  # type: ignore[arg-type] # it was checked
        left, top = max(x, 0.0), max(y, 0.0)
        right, bottom = min(x + width, image.width), min(y + height, image.height)
        image.boxes.append((class_id, (left, top, right - left, bottom - top)))


def _box_problem(box: Any, image: _Image) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return "bbox must be [x, y, width, height], four finite numbers in pixels"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return f"bbox {box} must be wider and higher than 0"
    if min(x, y) < -_SLACK or x + width > image.width + _SLACK or y + height > image.height + _SLACK:
        return f"bbox {box} lies outside of the image of {image.width:g} x {image.height:g} pixels"
    return None


def _compare_classes(read: _Split, name: str, report: DatasetReport) -> None:
    """The classes of all splits must be the same."""
    report.class_names = report.class_names or read.class_names
    if read.class_names and read.class_names != report.class_names:
        text = f"its categories are not those of the other splits: {', '.join(report.class_names[:5])}"
        report.add_problem(name, 0, text)


def _check_sizes(read: _Split, folder: Path, report: DatasetReport) -> None:
    for image in read.images:
        size = training_size(image.path)
        if size is not None and size != (image.width, image.height):
            told = f"{image.width:g} x {image.height:g}"
            text = f"it has {size[0]} x {size[1]} pixels as it is shown, and is listed with {told}"
            report.add_problem(_shown(image.path, folder), 0, text)


def _cut(value: Any) -> str:
    return repr(value)[:_SHOWN]


def _lookup(table: Mapping[Any, Any], key: Any) -> Any:
    return table.get(key) if isinstance(key, int | str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> float | None:
    return float(value) if _is_number(value) and value > 0 else None


def _within(path: Path, folder: Path, split: str) -> str:
    """The path of an image within its split."""
    parts = list(path.relative_to(folder).parts)
    names = {name + year for name in SPLIT_FOLDERS[split] for year in ("", "2017", "2014")}
    if parts[0] == "images":
        parts = parts[1:]
    if len(parts) > 1 and parts[0] in names:
        parts = parts[1:]
    return "/".join(parts)


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
