"""Draws predictions into images."""

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from visionmesh.v1 import result_pb2

_COLOURS = (
    *("#e4572e", "#2f78b7", "#29a37a", "#c98a00", "#8e5ac8"),
    *("#d6477f", "#1f9db0", "#7a8c1e", "#5b6b7a", "#b5533c"),
)
_QUALITY = 90
_CLASSES = 3  # of a classification, the likeliest


def draw(image: np.ndarray, prediction: result_pb2.ImagePrediction, path: Path) -> None:
    """Write `image` (height x width x 3, blue first) as JPEG with what `prediction` has found in it."""
    picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), max(10, round(max(picture.size) / 50)))
    for detection in reversed(prediction.detections):  # the most confident on top
        colour = _COLOURS[detection.class_id % len(_COLOURS)]
        text = f"{detection.class_name} {detection.confidence:.2f}"
        _draw_box(pen, detection.box, text, colour, line, font)
    for face in reversed(prediction.faces):
        _draw_box(pen, face.box, f"face {face.confidence:.2f}", _COLOURS[1], line, font)
        for point in face.landmarks:
            pen.circle((point.x, point.y), 1.5 * line, fill=_COLOURS[0])
    y = 0.0
    for found in prediction.classifications[:_CLASSES]:
        if y > picture.height / 4:
            break  # something of a small picture should be seen
        text = f"{found.class_name} {found.confidence:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        pen.rectangle(
            (0, y, right - left + 6, y + bottom - top + 6), fill=_COLOURS[found.class_id % len(_COLOURS)]
        )
        pen.text((3 - left, y + 3 - top), text, fill="white", font=font)
        y += bottom - top + 6
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=_QUALITY)


def _draw_box(
    pen: ImageDraw.ImageDraw,
    box: result_pb2.BoundingBox,
    text: str,
    colour: str,
    line: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """A box with its text above it, both inside the picture."""
    pen.rectangle((box.x_min, box.y_min, box.x_max, box.y_max), outline=colour, width=line)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    x = min(max(0.0, box.x_min), max(0.0, pen.im.size[0] - (right - left) - 6))
    y = max(0.0, box.y_min - (bottom - top) - 6)
    pen.rectangle((x, y, x + right - left + 6, y + bottom - top + 6), fill=colour)
    pen.text((x + 3 - left, y + 3 - top), text, fill="white", font=font)
