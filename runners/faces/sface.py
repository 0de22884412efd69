"""Turns faces into 128 numbers with SFace (Zhong et al., 2021), from an ONNX file that the user brings."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runners.faces import onnx_file


class SFace:
    """One ONNX file."""

    side = 112
    """Width and height of the faces that it takes."""

    def __init__(self, path: Path | None, *, normalize: bool) -> None:
        """Raises UserError if the file is no SFace."""
        self._normalize = normalize
        content = onnx_file.read(path, "EMBEDDING_CHECKPOINT_PATH", "the ONNX file of an SFace")
        with onnx_file.refused(path, "SFace"):
            self._network = cv2.FaceRecognizerSF.create("onnx", content, np.empty(0, np.uint8))
            self.vectors([np.zeros((self.side, self.side, 3), np.uint8)])  # a file of another kind fails here

    def vectors(self, faces: Sequence[np.ndarray]) -> list[Sequence[float]]:
        """A vector for each face (side x side x 3, blue first), of length 1 if that was asked for."""
        return [self._vector(face).tolist() for face in faces]

    def _vector(self, face: np.ndarray) -> np.ndarray:
        answer = np.array(self._network.feature(face), np.float32)
        if answer.ndim != 2 or len(answer) != 1:
            raise ValueError(
                f"it answers with {' x '.join(map(str, answer.shape))} numbers, not with a vector"
            )
        vector: np.ndarray = answer[0]
        return vector / max(float(np.linalg.norm(vector)), 1e-12) if self._normalize else vector
