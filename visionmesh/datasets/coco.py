"""COCO: annotations/instances_{split}.json, and the images that it lists.

Years (`instances_train2017.json`, `train2017/`), `person_keypoints_{split}.json` and
{split}/_annotations.coco.json are understood, and `valid` is taken for `val`. Images lie in images/{split}/,
{split}/ or images/, or beside the file that lists them. Boxes are [x, y, width, height] in pixels from the
upper left corner, outlines polygons or masks in runs; annotations without either are the classes of whole
images. Crowds (`iscrowd`) are left out, as YOLO's own converter does. Class ids go by the categories in
order of their id.

The format: https://cocodataset.org/#format-data
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionmesh.datasets import _coco_files, _data_yaml
from visionmesh.datasets._json import line_of, load
from visionmesh.datasets._objects import (
    BadLabel,
    LabelledObject,
    Size,
    Tally,
    Where,
    is_number,
    read_box,
    read_keypoints,
    read_outlines,
)
from visionmesh.datasets.images import images_below, refused_images, training_size
from visionmesh.datasets.report import DatasetReport, SplitReport

MAX_BYTES = 2 * 2**30
_MAX_LOCATED_BYTES = 64 * 2**20  # telling lines is slow
_SHOWN = 60


@dataclass
class _Image:
    """One listed image."""

    path: Path
    size: Size
    objects: list[LabelledObject] = field(default_factory=list)


@dataclass
class _Split:
    """What one file lists."""

    class_names: list[str]
    keypoint_names: tuple[str, ...]
    images: list[_Image]
    tally: list[tuple[LabelledObject, Where]]


def is_laid_out(folder: Path) -> bool:
    """Whether `folder` holds a file that lists a split."""
    return bool(_coco_files.listings(folder))


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Read every file that lists a split, and with `open_images` the header of every image."""
    report, tally = DatasetReport(), Tally()
    listed: dict[Path, str] = {}
    for split, file in _coco_files.listings(folder).items():
        read = _read(folder, split, file, report)
        _compare_classes(read, _shown(file, folder), report)
        for image in read.images:
            before = listed.setdefault(image.path, split)
            if before != split:
                text = f"it is listed in split {before!r} and in {split!r}; leave it in one"
                report.add_problem(_shown(image.path, folder), 0, text)
        if open_images:
            _check_sizes(read, folder, report)
        for found, where in read.tally:
            tally.add(found, where)
        if read.images:
            report.splits.append(_counted(split, read))
    tally.settle(report)
    if report.task == "classify":
        _check_classes(folder, report)
    _check_images(folder, listed, report, open_images=open_images)
    return report


def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str | None]]:
    """(image, its path within the split, its labels if it has any) of a folder that was checked.

    The labels are the text of a YOLO file for `task`, which is one of the report's; "" for its first.
    """
    file = _coco_files.listings(folder).get(split)
    if file is None:
        return
    task = task or check_folder(folder).task
    for image in _read(folder, split, file, DatasetReport()).images:
        text = "".join(found.line(task, image.size) for found in image.objects)
        known = bool(text) or task != "classify"
        yield image.path, _coco_files.within(image.path, folder, split), text if known else None


def standard_paths(folder: Path) -> Mapping[str, str]:
    """Where each file belongs: images/{split}/… and annotations/instances_{split}.json."""
    places = {_shown(path, folder): _shown(path, folder) for path in folder.rglob("*") if path.is_file()}
    for split, file in _coco_files.listings(folder).items():
        places[_shown(file, folder)] = f"annotations/instances_{split}.json"
        for image in _read(folder, split, file, DatasetReport()).images:
            name = _shown(image.path, folder)
            places[name] = f"images/{split}/{_coco_files.within(image.path, folder, split)}"
    return places


def _counted(split: str, read: _Split) -> SplitReport:
    found = Counter(labelled.class_id for image in read.images for labelled in image.objects)
    whole = any(labelled.box is None for image in read.images for labelled in image.objects)
    labelled = sum(1 for image in read.images if image.objects or not whole)
    counts = tuple(found[class_id] for class_id in range(len(read.class_names)))
    return SplitReport(split, len(read.images), labelled, found.total(), counts)


def _read(folder: Path, split: str, file: Path, report: DatasetReport) -> _Split:
    """What `file` lists; what is wrong with it is noted, with its line, and left out."""
    found = DatasetReport()
    read = _parsed(folder, split, file, found, located=False)
    if found.problem_count and file.stat().st_size <= _MAX_LOCATED_BYTES:
        found = DatasetReport()
        read = _parsed(folder, split, file, found, located=True)
    report.take_problems(found)
    return read


def _parsed(folder: Path, split: str, file: Path, report: DatasetReport, *, located: bool) -> _Split:
    name = _shown(file, folder)
    content = load(file, name, MAX_BYTES, report, located=located)
    categories = _entries(content, "categories", name, report)
    numbers, class_names = _classes(categories, name, report)
    images = _images(content, folder, split, file, report)
    tally = []
    for annotation in _entries(content, "annotations", name, report):
        where = Where(name, line_of(annotation), f"annotation {str(annotation.get('id'))[:_SHOWN]}")
        if annotation.get("iscrowd"):
            continue
        try:
            image, labelled = _object(annotation, numbers, images)
        except BadLabel as bad:
            where.problem(report, str(bad))
        else:
            image.objects.append(labelled)
            tally.append((labelled, where))
    keypoint_names = _keypoint_names(categories, name, report)
    return _Split(class_names, keypoint_names, list(images.values()), tally)


def _entries(content: dict[str, Any], key: str, name: str, report: DatasetReport) -> list[dict[str, Any]]:
    """A list of objects with an id each."""
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        report.add_problem(name, 0, f"`{key}` must be a list of objects")
        return []
    return found


def _classes(
    categories: list[dict[str, Any]], name: str, report: DatasetReport
) -> tuple[dict[Any, int], list[str]]:
    """Class id by category id, and the names in order."""
    found = [
        (entry["id"], entry["name"])
        for entry in categories
        if isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)
    ]
    if not found:
        report.add_problem(name, 0, "`categories` must list the classes, each with a number as id and a name")
    if len({number for number, _ in found}) < len(found):
        report.add_problem(name, 0, "two of its categories have the same id")
    found.sort()
    return {number: class_id for class_id, (number, _) in enumerate(found)}, [text for _, text in found]


def _keypoint_names(categories: list[dict[str, Any]], name: str, report: DatasetReport) -> tuple[str, ...]:
    """Of the categories that have any: those must be the same."""
    listed = [entry["keypoints"] for entry in categories if entry.get("keypoints")]
    if not listed:
        return ()
    if not all(isinstance(names, list) and names == listed[0] for names in listed):
        report.add_problem(name, 0, "`keypoints` must be one list of names, the same for every category")
        return ()
    return tuple(str(text) for text in listed[0])


def _images(
    content: dict[str, Any], folder: Path, split: str, file: Path, report: DatasetReport
) -> dict[Any, _Image]:
    """The listed images by id."""
    name, images = _shown(file, folder), dict[Any, _Image]()
    for entry in _entries(content, "images", name, report):
        where = Where(name, line_of(entry), f"image {_cut(entry.get('file_name'))}")
        path = _coco_files.find(folder, split, file.parent, entry.get("file_name"))
        width, height = _positive(entry.get("width")), _positive(entry.get("height"))
        if path is None:
            where.problem(report, f"it is not in the dataset; add it below images/{split}")
        elif width is None or height is None:
            where.problem(report, "it needs width and height in pixels, above 0")
        elif not isinstance(entry.get("id"), int | str) or entry["id"] in images:
            where.problem(report, "it needs an id of its own")
        else:
            images[entry["id"]] = _Image(path, Size(width, height))
    return images


def _object(
    annotation: dict[str, Any], numbers: Mapping[Any, int], images: Mapping[Any, _Image]
) -> tuple[_Image, LabelledObject]:
    """An annotation, and the image in which it is. Raises BadLabel."""
    image = _lookup(images, annotation.get("image_id"))
    class_id = _lookup(numbers, annotation.get("category_id"))
    if image is None:
        raise BadLabel(f"there is no image {_cut(annotation.get('image_id'))}")
    if class_id is None:
        raise BadLabel(f"there is no category {_cut(annotation.get('category_id'))}")
    box, outlines, points = (annotation.get(key) for key in ("bbox", "segmentation", "keypoints"))
    found = LabelledObject(
        class_id,
        None if box is None else read_box(box, image.size),
        read_outlines(outlines, image.size) if outlines else (),
        keypoints=read_keypoints(points, image.size) if points else (),
    )
    return image, found.whole()


def _compare_classes(read: _Split, name: str, report: DatasetReport) -> None:
    """The classes of all splits must be the same, and their keypoints."""
    report.class_names = report.class_names or read.class_names
    if read.class_names and read.class_names != report.class_names:
        text = f"its categories are not those of the other splits: {', '.join(report.class_names[:5])}"
        report.add_problem(name, 0, text)
    if not read.keypoint_names:
        return
    report.keypoint_names = report.keypoint_names or read.keypoint_names
    report.flip_indices = _data_yaml.mirrored(report.keypoint_names)
    report.keypoint_shape = (len(report.keypoint_names), 3)
    if read.keypoint_names != report.keypoint_names:
        report.add_problem(name, 0, "its categories have other `keypoints` than those of the other splits")


def _check_classes(folder: Path, report: DatasetReport) -> None:
    """Where annotations are classes of whole images, each image has one."""
    for split, file in _coco_files.listings(folder).items():
        for image in _read(folder, split, file, DatasetReport()).images:
            if len(image.objects) > 1:
                inner = _coco_files.within(image.path, folder, split)
                text = f"image {inner} has {len(image.objects)} classes; leave one"
                report.add_problem(_shown(file, folder), 0, text)


def _check_images(
    folder: Path, listed: Mapping[Path, str], report: DatasetReport, *, open_images: bool
) -> None:
    for path in images_below(folder):
        if path not in listed:
            report.add_problem(_shown(path, folder), 0, "no file lists it; list it, or remove it")
    for path, problem in refused_images(folder) if open_images else ():
        report.add_problem(_shown(path, folder), 0, problem)


def _check_sizes(read: _Split, folder: Path, report: DatasetReport) -> None:
    for image in read.images:
        size = training_size(image.path)
        if size is not None and size != (image.size.width, image.size.height):
            text = f"it has {size[0]} x {size[1]} pixels as it is shown, and is listed with {image.size}"
            report.add_problem(_shown(image.path, folder), 0, text)


def _cut(value: Any) -> str:
    return repr(value)[:_SHOWN]


def _lookup(table: Mapping[Any, Any], key: Any) -> Any:
    return table.get(key) if isinstance(key, int | str) else None


def _positive(value: Any) -> float | None:
    return float(value) if is_number(value) and value > 0 else None


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
