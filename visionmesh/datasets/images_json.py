"""images/ and annotations/ with one JSON file per image, by its name.

    {"width": 640, "height": 480, "objects": [
        {"label": "cat", "bbox": [x, y, width, height]},
        {"label": "dog", "polygon": [[x, y], [x, y], [x, y]]}]}

Numbers are pixels from the upper left corner. An object has a class (`label`, or `class_id`) and a `bbox`,
a `polygon` or `segmentation`, `keypoints`, or an `oriented_box` of four corners. For classification the
file has a `label` and no objects. Other names under which results tell the same are taken too, so that
results can be used as labels; what else is there is left alone. Splits are folders as in YOLO's layout, or
told in each file as `split`. Class names come from data.yaml or classes.txt; without these they are the
labels, sorted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from visionmesh.datasets import _data_yaml
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
    read_outline,
    read_outlines,
)
from visionmesh.datasets._paired import PairedFolders
from visionmesh.datasets.images import training_size
from visionmesh.datasets.report import SPLITS, DatasetReport, SplitReport, split_of

FOLDERS = PairedFolders("annotations", ".json")
CLASS_NAME = ("label", "class_name", "category")
CLASS_ID = ("class_id", "category_id")

_OBJECTS = ("objects", "annotations", "predictions", "predicted_boxes")
_IMAGE = ("image", "image_name", "file_name", "image_path")
_OUTLINE = ("polygon", "segmentation")
_CORNERS = ("oriented_box", "obb")
_EDGES = ("x1", "y1", "x2", "y2")
MAX_BYTES = 16 * 2**20


@dataclass
class _Labels:
    """What one file tells."""

    name: str
    image: Path
    told: dict[str, Any]
    entries: list[dict[str, Any]] = field(default_factory=list)
    """Objects, or the file itself if it tells of the image as a whole."""
    size: Size | None = None

    def where(self, at: int) -> Where:
        """Of an entry."""
        entry = self.entries[at]
        return Where(self.name, line_of(entry), "the image" if entry is self.told else f"object {at + 1}")


def is_laid_out(folder: Path) -> bool:
    """Whether `folder` looks like this layout: JSON beside images, and no labels as YOLO has them."""
    if any(True for split in SPLITS if FOLDERS.label_files(folder, split)):
        return True
    flat = folder / "annotations"
    return (folder / "images").is_dir() and any(image_of(folder, path) for path in flat.rglob("*.json"))


def image_of(folder: Path, labels: Path) -> Path | None:
    """The image beside a file annotations/….json, in a folder without splits."""
    inner = labels.relative_to(folder / "annotations").with_suffix("")
    place = folder / "images" / inner
    return next((path for path in sorted(place.parent.glob("*")) if path.stem == inner.name), None)


def class_names_in(content: Mapping[str, Any]) -> list[str]:
    """The names of classes that the content of a file tells of, as it tells them."""
    entries = [content, *(_first(content, _OBJECTS) or [])]
    return [
        str(name)
        for name in (_first(entry, CLASS_NAME) for entry in entries if isinstance(entry, dict))
        if name
    ]


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Read every file below `folder`, and with `open_images` the header of every image."""
    report = DatasetReport()
    found = {split: _read_split(folder, split, report, located=True) for split in SPLITS}
    told = _class_names(folder, [labels for read in found.values() for labels in read], report)
    tally, with_split = Tally(), [bool(read.told.get("split")) for some in found.values() for read in some]
    for split, read in found.items():
        counts = Counter[int]()
        for labels in read:
            _check_file(labels, split, report, all_told=any(with_split))
            for at, labelled in _objects(labels, told, report):
                counts[labelled.class_id] += 1
                tally.add(labelled, labels.where(at))
        images = sum(1 for _ in FOLDERS.pairs(folder, split))
        if images:
            per_class = tuple(counts[class_id] for class_id in range(len(told)))
            report.splits.append(SplitReport(split, images, len(read), counts.total(), per_class))
    tally.settle(report)
    FOLDERS.check(folder, report, open_images=open_images)
    return report


def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str | None]]:
    """(image, its path within the split, its labels if it has any) of a folder that was checked.

    The labels are the text of a YOLO file for `task`, which is one of the report's; "" for its first.
    """
    unheard = DatasetReport()
    found = {name: _read_split(folder, name, unheard, located=False) for name in SPLITS}
    names = _class_names(folder, [labels for read in found.values() for labels in read], unheard)
    task = task or check_folder(folder).task
    texts = {
        labels.image: "".join(
            labelled.line(task, labels.size or Size(1, 1)) for _, labelled in _objects(labels, names, unheard)
        )
        for labels in found[split]
    }
    for image, inner, _ in FOLDERS.pairs(folder, split):
        yield image, inner, texts.get(image)


def _read_split(folder: Path, split: str, report: DatasetReport, *, located: bool) -> list[_Labels]:
    """The files of a split; what is wrong with one is noted, and it is left out."""
    found = []
    for image, _, path in FOLDERS.pairs(folder, split):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            told = load(path, name, MAX_BYTES, report, located=located)
            if told and (read := _entries(_Labels(name, image, told), report)) is not None:
                found.append(read)
    return found


def _entries(labels: _Labels, report: DatasetReport) -> _Labels | None:
    listed = [key for key in _OBJECTS if key in labels.told]
    whole = any(key in labels.told for key in (*CLASS_NAME, *CLASS_ID))
    if len(listed) + whole != 1:
        text = "it needs either `objects`, a list, or one `label` for the image as a whole"
        report.add_problem(labels.name, 1, text)
        return None
    entries = [labels.told] if whole else labels.told[listed[0]]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        report.add_problem(labels.name, 1, f"`{listed[0]}` must be a list of objects {{…}}")
        return None
    labels.entries = entries
    labels.size = _size(labels)
    return labels


def _size(labels: _Labels) -> Size | None:
    """As told, or as the image has it; None if neither can be read."""
    width, height = (labels.told.get(side, 0) for side in ("width", "height"))
    if is_number(width) and is_number(height) and width > 0 and height > 0:
        return Size(width, height)
    shown = training_size(labels.image)
    return Size(*shown) if shown else None


def _class_names(folder: Path, read: Sequence[_Labels], report: DatasetReport) -> list[str]:
    """Told by a file, or the labels, sorted; with keypoints these go to the report."""
    if _data_yaml.is_there(folder):
        told = _data_yaml.told(folder, report)
        report.keypoint_names, report.flip_indices = told.keypoint_names, told.flip_indices
        report.keypoint_shape = told.keypoint_shape
        report.class_names = list(told.class_names)
    else:
        report.class_names = sorted({name for labels in read for name in class_names_in(labels.told)})
    if read and not report.class_names:
        text = "no object has a `label`; add it, or name the classes in a classes.txt, one per line"
        report.add_problem("classes.txt", 0, text)
    return report.class_names


def _check_file(labels: _Labels, split: str, report: DatasetReport, *, all_told: bool) -> None:
    """Note where a file does not go with its image or its split."""
    told, shown = labels.told, training_size(labels.image)
    sides = (told.get("width"), told.get("height"))
    if shown is not None and sides not in {(None, None), shown}:
        size = f"{shown[0]} x {shown[1]} pixels as it is shown"
        report.add_problem(labels.name, 1, f"its image has {size}, and it tells {sides[0]} x {sides[1]}")
    named = _first(told, _IMAGE)
    if named is not None and PurePosixPath(str(named)).name != labels.image.name:
        report.add_problem(labels.name, 1, f"it tells of {named!r}, and its image is {labels.image.name}")
    stated = told.get("split")
    if stated is None and all_told:
        report.add_problem(labels.name, 1, "it lacks `split`, and other files have it; add it")
    elif stated is not None and split_of(str(stated)) != split:
        text = (
            f"`split` is {stated!r}, and the image is in {split}; it must be train, val or test as its folder"
        )
        report.add_problem(labels.name, 1, text)


def _objects(
    labels: _Labels, names: list[str], report: DatasetReport
) -> Iterator[tuple[int, LabelledObject]]:
    """The objects of a file, by their numbers; what is wrong with one is noted, and it is left out."""
    for at, entry in enumerate(labels.entries):
        try:
            yield at, _object(entry, labels, names)
        except BadLabel as bad:
            labels.where(at).problem(report, str(bad))


def _object(entry: dict[str, Any], labels: _Labels, names: list[str]) -> LabelledObject:
    class_id = _class(entry, names)
    if entry is labels.told:
        return LabelledObject(class_id)
    if labels.size is None:
        raise BadLabel("its image cannot be read, so nobody knows where it is in it")
    size = labels.size
    box, outline = _box(entry), _first(entry, _OUTLINE)
    corners, keypoints = _first(entry, _CORNERS), entry.get("keypoints")
    return LabelledObject(
        class_id,
        None if box is None else read_box(box, size),
        () if outline is None else read_outlines(outline, size),
        () if corners is None else read_outline(corners, size, points=4),
        () if keypoints is None else read_keypoints(keypoints, size),
    ).whole()


def _class(entry: dict[str, Any], names: list[str]) -> int:
    name, number = _first(entry, CLASS_NAME), _first(entry, CLASS_ID)
    if name is not None:
        if name not in names:
            raise BadLabel(f"there is no class {name!r}; the classes are {', '.join(names[:10])}")
        return names.index(name)
    if type(number) is not int or not 0 <= number < len(names):
        raise BadLabel(f"it needs a `label`, or a `class_id` from 0 to {len(names) - 1}, got {number!r}")
    return number


def _box(entry: dict[str, Any]) -> Any:
    """[x, y, width, height], however it is told."""
    box = entry.get("bbox")
    if isinstance(box, dict):
        return [box.get(key) for key in ("x", "y", "width", "height")]
    edges = [float(entry[key]) for key in _EDGES if is_number(entry.get(key))]
    if box is None and len(edges) == 4:
        left, top, right, bottom = edges
        return [left, top, right - left, bottom - top]
    return box


def _first(told: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What is told under the first of `keys` that is there."""
    return next((told[key] for key in keys if told.get(key) is not None), None)
