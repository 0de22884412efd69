"""Finds faces with the Haar cascades that come with OpenCV 4 (Viola and Jones, CVPR 2001)."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runners.faces import detector
from runners.process.errors import UserError
from visionmesh.v1 import result_pb2


@dataclass(frozen=True)
class Cascade:
    """One of OpenCV's files, and how it is used."""

    file: str
    spread: float
    """Points above the last stage's threshold from which on a confidence is above 0.63."""
    mirrored: bool
    """It knows faces that look one way: the mirror image has the others."""


CASCADES = {
    "haar-frontal": Cascade("haarcascade_frontalface_alt2.xml", 1.0, mirrored=False),
    "haar-profile": Cascade("haarcascade_profileface.xml", 2.0, mirrored=True),
}
"""By name of the manifest."""

_THRESHOLD = re.compile("<stageThreshold>([^<]+)</stageThreshold>")


class Haar:
    """One cascade.

    What it calls a score is the sum of the last stage's votes; a window becomes a face where that is
    above the stage's threshold. The confidence is 1 - exp(-(score - threshold) / spread): it puts the
    findings in order and lies in [0, 1], but is no probability.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """`settings` are all of the manifest's. Raises UserError if OpenCV has come without cascades."""
        self._cascade, self._settings = CASCADES[name], settings
        path = Path(cv2.__file__).with_name("data") / self._cascade.file
        self._classifier = cv2.CascadeClassifier(str(path)) if path.is_file() else None
        if self._classifier is None or self._classifier.empty():
            raise UserError(
                f"OpenCV {cv2.__version__} has no {self._cascade.file} here. Install opencv-python below 5, "
                "or use yunet with its ONNX file as checkpoint.",
                reason="UNSUPPORTED",
            )
        self._threshold = float(_THRESHOLD.findall(path.read_text())[-1])

    def find(self, image: np.ndarray) -> list[result_pb2.Face]:
        """The faces in an image (height x width x 3, blue first); without landmarks."""
        small, factor = detector.shrunk(image, self._settings["max_side"])
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        found = [detector.face(box, confidence, (), factor) for box, confidence in self._look(grey)]
        if self._cascade.mirrored:
            for (x, y, width, height), confidence in self._look(cv2.flip(grey, 1)):
                box = (grey.shape[1] - x - width, y, width, height)
                found.append(detector.face(box, confidence, (), factor))
        return found

    def _look(self, grey: np.ndarray) -> Iterator[tuple[tuple[float, float, float, float], float]]:
        """Boxes (x, y, width, height) with their confidences."""
        least = self._settings["min_size"]
        if min(grey.shape) < least:
            return
        boxes, _stages, scores = self._classifier.detectMultiScale3(  # type: ignore[union-attr] # checked above
            grey,
            scaleFactor=self._settings["scale_factor"],
            minNeighbors=self._settings["min_neighbors"],
            minSize=(least, least),
            outputRejectLevels=True,
        )
        for box, score in zip(boxes, np.ravel(scores), strict=True):
            above = max(0.0, float(score) - self._threshold)
            yield tuple(float(value) for value in box), 1 - math.exp(-above / self._cascade.spread)  # type: ignore[misc] # four
