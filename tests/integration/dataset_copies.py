"""The same dataset in another layout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionmesh.datasets.formats import format_of
from visionmesh.datasets.report import DatasetReport


def as_coco(source: Path, target: Path, size: int) -> Path:
    """The dataset `source`, its square images of `size` pixels, as COCO."""
    report = format_of(source).check(source)
    for split in report.splits:
        listed: dict[str, Any] = {"images": [], "annotations": []}
        listed["categories"] = [
            {"id": n + 1, "name": name, "keypoints": list(report.keypoint_names)}
            for n, name in enumerate(report.class_names)
        ]
        for inner, image, objects in contents(source, report, split.name, size):
            name, number = inner.replace("/", "_"), len(listed["images"]) + 1
            (target / "images" / split.name).mkdir(parents=True, exist_ok=True)
            (target / "images" / split.name / name).write_bytes(image)
            listed["images"].append({"id": number, "file_name": name, "width": size, "height": size})
            for class_id, told in objects:
                annotation = {"id": len(listed["annotations"]) + 1, "image_id": number}
                listed["annotations"].append(annotation | {"category_id": class_id + 1} | told)
                for key in ("segmentation", "keypoints"):
                    if key in told:
                        annotation_of = listed["annotations"][-1]
                        flat = [value for point in told[key] for value in point]
                        annotation_of[key] = [flat] if key == "segmentation" else flat
        (target / "annotations").mkdir(exist_ok=True)
        (target / "annotations" / f"instances_{split.name}.json").write_text(json.dumps(listed))
    return target


def as_images_json(source: Path, target: Path, size: int) -> Path:
    """The dataset `source`, its square images of `size` pixels, as images with one JSON file each."""
    report = format_of(source).check(source)
    for split in report.splits:
        for inner, image, objects in contents(source, report, split.name, size):
            place = target / "images" / split.name / inner.replace("/", "_")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(image)
            told = [{"label": report.class_names[class_id], **fields} for class_id, fields in objects]
            whole = report.task == "classify"
            content = told[0] if whole else {"width": size, "height": size, "objects": told}
            labels = (target / "annotations" / split.name / place.name).with_suffix(".json")
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(json.dumps(content, indent=2))
    return target


def as_yolo(source: Path, target: Path) -> Path:
    """The dataset `source` as YOLO; classes of whole images as lines with the class alone."""
    layout = format_of(source)
    report = layout.check(source)
    for split in report.splits:
        for image, inner, labels in layout.labelled_images(source, split.name):
            place = target / "images" / split.name / inner.replace("/", "_")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(image.read_bytes())
            text = (target / "labels" / split.name / place.name).with_suffix(".txt")
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(labels or "")
    (target / "classes.txt").write_text("\n".join(report.class_names))
    return target


def contents(
    source: Path, report: DatasetReport, split: str, size: int
) -> Iterator[tuple[str, bytes, list[tuple[int, dict[str, Any]]]]]:
    """(path, bytes, class id and fields in pixels of each object) of each image."""
    for image, inner, labels in format_of(source).labelled_images(source, split):
        objects = [_object(line, report, size) for line in (labels or "").splitlines()]
        yield inner, image.read_bytes(), objects


def _object(line: str, report: DatasetReport, size: int) -> tuple[int, dict[str, Any]]:
    class_id, *numbers = line.split()
    fields: dict[str, Any] = {}
    values = [float(number) * size for number in numbers]
    if report.task in {"detect", "pose"}:
        x, y, width, height = values[:4]
        fields["bbox"] = [x - width / 2, y - height / 2, width, height]
    if report.task == "pose":
        fields["keypoints"] = [
            [values[at], values[at + 1], round(values[at + 2] / size)] for at in range(4, len(values), 3)
        ]
    if report.task in {"segment", "obb"}:
        key = "segmentation" if report.task == "segment" else "oriented_box"
        fields[key] = [list(point) for point in zip(values[::2], values[1::2], strict=True)]
    return int(class_id), fields
