"""What all face detectors share: sizes of images, boxes, what is kept of what was found."""

import math
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from visionmesh.v1 import result_pb2

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""In this order; left and right as the person has them, as in OpenCV and COCO."""


class Detector(Protocol):
    """Finds faces."""

    def find(self, image: np.ndarray) -> list[result_pb2.Face]:
        """The faces in an image (height x width x 3, blue first), in any order, without an index."""


def shrunk(image: np.ndarray, max_side: int) -> tuple[np.ndarray, float]:
    """`image` with no side longer than `max_side`, and the factor that takes its pixels back."""
    height, width = image.shape[:2]
    factor = max(1.0, max(height, width) / max_side)
    if factor == 1:
        return image, factor
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def face(
    box: Sequence[float], confidence: float, landmarks: Sequence[Sequence[float]], factor: float
) -> result_pb2.Face:
    """A face of a shrunk image in pixels of the image itself; `box` is x, y, width, height."""
    x, y, width, height = (float(value) * factor for value in box)
    found = result_pb2.Face(
        box=result_pb2.BoundingBox(x_min=x, y_min=y, x_max=x + width, y_max=y + height),
        confidence=min(1.0, max(0.0, float(confidence))),
    )
    for name, point in zip(LANDMARKS, landmarks, strict=False):  # all five or none
        place = {"x": float(point[0]) * factor, "y": float(point[1]) * factor}
        found.landmarks.add(name=name, confidence=found.confidence, **place)
    return found


def kept(
    found: list[result_pb2.Face], image: np.ndarray, *, confidence: float, nms_threshold: float, most: int
) -> list[result_pb2.Face]:
    """The faces to tell of, most confident first, numbered, their boxes inside the image.

    Of two that overlap by more than `nms_threshold` (intersection over union) the more confident stays.
    """
    height, width = image.shape[:2]
    chosen: list[result_pb2.Face] = []
    for candidate in sorted(filter(_is_placed, found), key=lambda face: -face.confidence):
        box = candidate.box
        box.x_min, box.x_max = max(0.0, box.x_min), min(float(width), box.x_max)
        box.y_min, box.y_max = max(0.0, box.y_min), min(float(height), box.y_max)
        inside = box.x_max > box.x_min and box.y_max > box.y_min
        if not inside or candidate.confidence < confidence or len(chosen) == most:
            continue
        if all(overlap(box, other.box) <= nms_threshold for other in chosen):
            candidate.face_index = len(chosen)
            chosen.append(candidate)
    return chosen


def _is_placed(face: result_pb2.Face) -> bool:
    """Whether it is anywhere: a broken network may answer with what is no number."""
    box = (face.box.x_min, face.box.y_min, face.box.x_max, face.box.y_max)
    return all(map(math.isfinite, box)) and all(math.isfinite(p.x + p.y) for p in face.landmarks)


def overlap(one: result_pb2.BoundingBox, other: result_pb2.BoundingBox) -> float:
    """Intersection over union."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    both = max(0.0, width) * max(0.0, height)
    return both / (_area(one) + _area(other) - both)


def _area(box: result_pb2.BoundingBox) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)
