"""Predictions against what was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visionmesh.shapes import CLASS_NAMES
from visionmesh.v1 import result_pb2

IOU_THRESHOLD = 0.5
"""Overlap from which a predicted box is the drawn one."""


@dataclass(frozen=True)
class Truth:
    """One drawn shape, in pixels."""

    class_name: str
    box: result_pb2.BoundingBox


def read_truth(label: Path, width: int, height: int) -> list[Truth]:
    """The shapes of a YOLO label file for an image of that size."""
    return [_truth(line.split(), width, height) for line in label.read_text().splitlines()]


def _truth(words: list[str], width: int, height: int) -> Truth:
    x, y, w, h = (float(word) for word in words[1:])
    box = result_pb2.BoundingBox(
        x_min=(x - w / 2) * width,
        y_min=(y - h / 2) * height,
        x_max=(x + w / 2) * width,
        y_max=(y + h / 2) * height,
    )
    return Truth(CLASS_NAMES[int(words[0])], box)


def iou(one: result_pb2.BoundingBox, other: result_pb2.BoundingBox) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    if width <= 0 or height <= 0:
        return 0.0
    union = _area(one) + _area(other) - width * height
    return width * height / union


def matched(truths: Sequence[Truth], detections: Sequence[result_pb2.Detection]) -> int:
    """How many drawn shapes were found: each by one detection of its class, the surest first."""
    left = list(truths)
    for detection in sorted(detections, key=lambda detection: -detection.confidence):
        hits = [
            truth
            for truth in left
            if truth.class_name == detection.class_name and iou(truth.box, detection.box) >= IOU_THRESHOLD
        ]
        if hits:
            left.remove(max(hits, key=lambda truth: iou(truth.box, detection.box)))
    return len(truths) - len(left)


def _area(box: result_pb2.BoundingBox) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)
