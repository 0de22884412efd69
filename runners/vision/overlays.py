"""Draws predictions into images."""

import math
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from runners.vision import masks
from visionmesh.v1 import result_pb2

_COLOURS = (
    *("#e4572e", "#2f78b7", "#29a37a", "#c98a00", "#8e5ac8"),
    *("#d6477f", "#1f9db0", "#7a8c1e", "#5b6b7a", "#b5533c"),
)
_QUALITY = 90
_CLASSES = 3  # of a classification, the likeliest
_FILL = 0.4  # how much of a mask's colour covers what is below it
_LEAST_SURE = 0.3  # of a keypoint that is drawn


def draw(image: np.ndarray, prediction: result_pb2.ImagePrediction, path: Path) -> None:
    """Write `image` (height x width x 3, blue first) as JPEG with all that `prediction` tells of it."""
    detections = list(reversed(prediction.detections))  # the most confident on top
    picture = Image.fromarray(_filled(image[..., ::-1], detections))
    pen = _Pen(picture)
    for detection in detections:
        pen.detection(detection)
    for face in reversed(prediction.faces):
        pen.face(face)
    pen.classes(prediction.classifications[:_CLASSES])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=_QUALITY)


def corners(box: result_pb2.OrientedBox) -> list[tuple[float, float]]:
    """Of a turned box, clockwise."""
    cos, sin = math.cos(box.angle), math.sin(box.angle)
    halves = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    sides = [(x * box.width, y * box.height) for x, y in halves]
    return [(box.x_center + x * cos - y * sin, box.y_center + x * sin + y * cos) for x, y in sides]


def _filled(image: np.ndarray, detections: list[result_pb2.Detection]) -> np.ndarray:
    """A copy of `image` (red first) with the masks coloured."""
    filled = np.array(image, order="C")
    for detection in detections:
        if detection.HasField("mask"):
            inside = masks.decode(detection.mask)
            colour = np.array([int(_colour(detection.class_id)[at : at + 2], 16) for at in (1, 3, 5)])
            filled[inside] = (filled[inside] * (1 - _FILL) + colour * _FILL).astype(np.uint8)
    return filled


def _colour(class_id: int) -> str:
    return _COLOURS[class_id % len(_COLOURS)]


class _Pen:
    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self._draw = ImageDraw.Draw(picture)
        self._line = max(2, round(max(picture.size) / 400))
        size = max(10, round(max(picture.size) / 50))
        self._font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)

    def detection(self, detection: result_pb2.Detection) -> None:
        colour, box = _colour(detection.class_id), detection.box
        if detection.HasField("oriented_box"):
            self._closed(corners(detection.oriented_box), colour)
        else:
            edges = (box.x_min, box.y_min, box.x_max, box.y_max)
            self._draw.rectangle(edges, outline=colour, width=self._line)
        for polygon in detection.polygons:
            x, y = polygon.coordinates[::2], polygon.coordinates[1::2]
            self._closed(list(zip(x, y, strict=True)), colour)
        for point in detection.keypoints:
            if point.confidence >= _LEAST_SURE:
                self._dot(point.x, point.y, colour)
        self._label(box.x_min, box.y_min, f"{detection.class_name} {detection.confidence:.2f}", colour)

    def face(self, face: result_pb2.Face) -> None:
        box = face.box
        edges = (box.x_min, box.y_min, box.x_max, box.y_max)
        self._draw.rectangle(edges, outline=_colour(1), width=self._line)
        for point in face.landmarks:
            self._dot(point.x, point.y, _colour(0))
        self._label(box.x_min, box.y_min, f"face {face.confidence:.2f}", _colour(1))

    def classes(self, found: list[result_pb2.Classification]) -> None:
        """Name the likeliest classes in the upper left corner."""
        y = 0.0
        for entry in found:
            if y > self._picture.height / 4:
                break  # something of a small picture should be seen
            text = f"{entry.class_name} {entry.confidence:.2f}"
            y = self._text(0, y, text, _colour(entry.class_id))

    def _closed(self, points: list[tuple[float, float]], colour: str) -> None:
        self._draw.line([*points, points[0]], fill=colour, width=self._line, joint="curve")

    def _dot(self, x: float, y: float, colour: str) -> None:
        radius = self._line * 2
        edges = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse(edges, fill="white", outline=colour, width=self._line)

    def _label(self, x: float, y: float, text: str, colour: str) -> None:
        """Write above a point, inside the picture."""
        left, top, right, bottom = self._draw.textbbox((0, 0), text, font=self._font)
        x = min(max(0.0, x), max(0.0, self._picture.width - (right - left) - 6))
        self._text(x, max(0.0, y - (bottom - top) - 6), text, colour)

    def _text(self, x: float, y: float, text: str, colour: str) -> float:
        """Write on a coloured ground from its upper left corner; where that ends, down the picture."""
        left, top, right, bottom = self._draw.textbbox((0, 0), text, font=self._font)
        end = y + bottom - top + 6
        self._draw.rectangle((x, y, x + right - left + 6, end), fill=colour)
        self._draw.text((x + 3 - left, y + 3 - top), text, fill="white", font=self._font)
        return float(end)
