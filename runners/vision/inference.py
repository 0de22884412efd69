"""The loop over the images of an inference job, whatever looks at them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped
from runners.vision import images, overlays
from runners.vision.images import ImageFile
from visionmesh.inference_totals import InferenceTotals
from visionmesh.names import artifact_name
from visionmesh.v1 import process_pb2, result_pb2, vision_pb2


class Predictor(Protocol):
    """Looks at images."""

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """What is in each image (height x width x 3, blue first), without index and URI; by index."""


class Inference:
    """Goes through the images batch by batch, and keeps the totals of this attempt.

    One event per image, in order of index, as soon as it is made. An image that cannot be read is an
    error entry. What leaves other files behind than this does overrides `keep`.
    """

    def __init__(
        self,
        environment: JobEnvironment,
        predictor: Predictor,
        listed: list[ImageFile],
        emitter: Emitter,
        commands: Commands,
    ) -> None:
        self._environment, self._predictor, self._listed = environment, predictor, listed
        self._emitter, self._commands = emitter, commands
        self._totals = InferenceTotals()
        self._began = time.monotonic()

    def run(self) -> None:
        """Predict on every image. On Stopped the totals so far are published before it passes on."""
        todo = self._listed[self._environment.first_image_index :]
        size = self._environment.batch_size
        try:
            for start in range(0, len(todo), size):
                self._commands.poll()
                self._batch(todo[start : start + size])
        except Stopped:
            self._emitter.inference_result(self._totals.result())
            raise
        self._emitter.stage(vision_pb2.STAGE_FINISHING)
        self._emitter.inference_result(self._totals.result())

    def _batch(self, batch: list[ImageFile]) -> None:
        pixels: dict[int, np.ndarray] = {}
        broken: dict[int, result_pb2.ImagePrediction] = {}
        for image in batch:
            try:
                pixels[image.index] = images.read(image)
            except images.UnreadableImage as error:
                broken[image.index] = result_pb2.ImagePrediction(error=error.status())
        found = self._predictor.predict(pixels)
        for image in batch:
            prediction = broken.get(image.index) or found[image.index]
            prediction.index, prediction.image_uri = image.index, image.uri
            if image.index in found:
                self.keep(pixels[image.index], prediction)
            self._totals.add(prediction)
            self._emitter.prediction(prediction)
        self._tell_progress()

    def keep(self, pixels: np.ndarray, prediction: result_pb2.ImagePrediction) -> None:
        """Leave the files of an image behind, named in its prediction."""
        if self._environment.save_overlays:
            name = f"overlays/{prediction.index}.jpg"
            overlays.draw(pixels, prediction, self._environment.output_path / name)
            prediction.overlay_artifact = self.publish(name, result_pb2.ARTIFACT_KIND_OVERLAY, "image/jpeg")
        if prediction.HasField("embedding"):
            name = "embedding.bin" if self.is_single else f"embeddings/{prediction.index}.bin"
            self.keep_vector(prediction.embedding, name)

    @property
    def is_single(self) -> bool:
        """Whether the job has one image: its files need no number then."""
        return len(self._listed) == 1

    def keep_vector(self, embedding: result_pb2.Embedding, name: str) -> None:
        """Leave a vector in a file; its numbers stay in the prediction only if that was asked for."""
        embedding.dimension = len(embedding.values)
        _write_vector(self._environment.output_path / name, embedding.values)
        kind = result_pb2.ARTIFACT_KIND_EMBEDDING
        embedding.artifact = self.publish(name, kind, "application/octet-stream")
        if not self._environment.inline_values:
            del embedding.values[:]

    def publish(self, name: str, kind: "result_pb2.ArtifactKind.ValueType", content_type: str) -> str:
        """Announce a file below the output path; the name of its artifact."""
        file = process_pb2.OutputFile(path=name, artifact=name, kind=kind, content_type=content_type)
        self._emitter.file(file)
        return artifact_name(self._environment.job_id, name)

    def _tell_progress(self) -> None:
        now_done = self._totals.images
        done, total = self._environment.first_image_index + now_done, len(self._listed)
        seconds = time.monotonic() - self._began
        self._emitter.images(done, total, self._totals.failed, seconds / now_done * (total - done))


def _write_vector(path: Path, values: Sequence[float]) -> None:
    """Write a vector as a NumPy file: float32, shape [dimension]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, np.asarray(values, np.float32))
