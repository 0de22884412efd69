"""Looks for faces image by image, and leaves each face behind as a picture and a vector."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from runners.faces import alignment, detector
from runners.faces.detector import Detector
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.vision.images import ImageFile
from runners.vision.inference import Inference
from visionmesh.v1 import result_pb2

_QUALITY = 95


class Embedder(Protocol):
    """Turns faces into vectors."""

    side: int
    """Width and height of the faces that it takes."""

    def vectors(self, faces: Sequence[np.ndarray]) -> list[Sequence[float]]:
        """A vector for each face (side x side x 3, blue first)."""


class Finder:
    """Finds the faces, and turns each into a vector if there is something to do so with."""

    def __init__(
        self,
        environment: JobEnvironment,
        settings: Mapping[str, Any],
        found_by: Detector,
        embedder: Embedder | None = None,
    ) -> None:
        """`settings` are all of the manifest's."""
        self._environment, self._settings = environment, settings
        self._detector, self._embedder = found_by, embedder

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """What is in each image (height x width x 3, blue first), without index and URI; by index."""
        return {index: self._look(image) for index, image in images.items()}

    def picture(self, image: np.ndarray, face: result_pb2.Face) -> np.ndarray:
        """The face cut out of its image: what becomes the vector, or the box with its margin."""
        margin = self._settings["margin"]
        if self._embedder is None:
            return alignment.cut(image, face, margin)
        return alignment.align(image, face, self._embedder.side, margin)

    def _look(self, image: np.ndarray) -> result_pb2.ImagePrediction:
        began = time.perf_counter()
        found = detector.kept(
            self._detector.find(image),
            image,
            confidence=self._environment.confidence_threshold,
            nms_threshold=self._settings["nms_threshold"],
            most=self._environment.max_detections,
        )
        if self._embedder is not None and found:
            vectors = self._embedder.vectors([self.picture(image, face) for face in found])
            for face, vector in zip(found, vectors, strict=True):
                face.embedding.values.extend(vector)
        height, width = image.shape[:2]
        timings = result_pb2.Timings(inference_ms=1000 * (time.perf_counter() - began))
        return result_pb2.ImagePrediction(width=width, height=height, faces=found, timings=timings)


class FaceInference(Inference):
    """The loop over the images that leaves faces/{image}/{face}.jpg and .bin behind.

    Where the job has one image, these are faces/{face}.jpg and .bin.
    """

    def __init__(
        self,
        environment: JobEnvironment,
        finder: Finder,
        listed: list[ImageFile],
        emitter: Emitter,
        commands: Commands,
    ) -> None:
        super().__init__(environment, finder, listed, emitter, commands)
        self._finder = finder

    def keep(self, pixels: np.ndarray, prediction: result_pb2.ImagePrediction) -> None:
        """Leave the files of an image behind, named in its prediction."""
        super().keep(pixels, prediction)
        folder = "faces" if self.is_single else f"faces/{prediction.index}"
        for face in prediction.faces:
            name = f"{folder}/{face.face_index}"
            if self._environment.save_crops:
                face.crop_artifact = self._keep_crop(f"{name}.jpg", self._finder.picture(pixels, face))
            if face.HasField("embedding"):
                self.keep_vector(face.embedding, f"{name}.bin")

    def _keep_crop(self, name: str, picture: np.ndarray) -> str:
        path = self._environment.output_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
        path.write_bytes(encoded.tobytes())
        return self.publish(name, result_pb2.ARTIFACT_KIND_FACE_CROP, "image/jpeg")
