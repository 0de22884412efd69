"""Finds faces and five landmarks with YuNet (Wu et al., 2023), from an ONNX file that the user brings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runners.faces import detector, onnx_file
from visionmesh.v1 import result_pb2

_TOP_K = 5000
# OpenCV: x, y, width, height, then the right eye, the left eye, the nose and the right and the left corner
# of the mouth, as the person has them, then the score. Here in the order of detector.LANDMARKS.
_POINTS = ((6, 7), (4, 5), (8, 9), (12, 13), (10, 11))
_SCORE = 14


class YuNet:
    """One ONNX file."""

    def __init__(self, path: Path | None, settings: Mapping[str, Any], confidence: float) -> None:
        """`settings` are all of the manifest's. Raises UserError if the file is no YuNet."""
        self._settings = settings
        content = onnx_file.read(path, "CHECKPOINT_PATH", "the ONNX file of a YuNet")
        with onnx_file.refused(path, "YuNet"):
            nothing = np.empty(0, np.uint8)
            self._network = cv2.FaceDetectorYN.create(
                "onnx", content, nothing, (64, 64), confidence, settings["nms_threshold"], _TOP_K
            )
            self.find(np.zeros((64, 64, 3), np.uint8))  # a file of another kind fails here

    def find(self, image: np.ndarray) -> list[result_pb2.Face]:
        """The faces in an image (height x width x 3, blue first), with landmarks."""
        small, factor = detector.shrunk(image, self._settings["max_side"])
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._network.detect(small)
        least = self._settings["min_size"]
        return [
            detector.face(row[:4], row[_SCORE], [row[list(point)] for point in _POINTS], factor)
            for row in (rows if rows is not None else ())
            if min(row[2:4]) >= least
        ]
