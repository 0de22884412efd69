"""A framework without a network: it says which of three colours an image has, and can draw and embed it.

Loaded by job processes as "looking_framework:Looking", with this folder on PYTHONPATH. It goes through
images as the built-in frameworks do.
"""

import os
import time
from collections.abc import Mapping

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads is not forked

import numpy as np

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.vision.images import list_images
from runners.vision.inference import Inference
from visionmesh.v1 import result_pb2, runner_pb2, vision_pb2

KINDS = ("infer", "embed", "detect_faces", "embed_faces")
COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}  # blue first


class Looking(Framework):
    """Knows three colours."""

    name = "looking"
    packages = ("numpy",)

    def manifest(self) -> runner_pb2.FrameworkManifest:
        made = runner_pb2.FrameworkManifest(
            framework="looking", version="1", kinds=KINDS, tasks=[vision_pb2.TASK_CLASSIFY]
        )
        made.hyperparameters.add(
            name="hold_at",
            type=runner_pb2.HYPERPARAMETER_TYPE_INT,
            description="The first attempt waits before this image until it is killed.",
        )
        return made

    def preload(self) -> None:
        pass

    def device(self, environment: JobEnvironment) -> str:
        return "cpu"

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        emitter.stage(vision_pb2.STAGE_PREDICTING)
        predictor = Nearest(environment, commands)
        Inference(environment, predictor, list_images(environment.image_paths), emitter, commands).run()


class Nearest:
    """The nearest of the colours; the vector of an image is its mean colour."""

    def __init__(self, environment: JobEnvironment, commands: Commands) -> None:
        self._environment, self._commands = environment, commands
        self._hold_at = environment.hyperparameters.get("hold_at", -1) if environment.attempt == 1 else -1

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        while self._hold_at in images:
            self._commands.poll()
            time.sleep(0.01)
        return {index: self._look(pixels) for index, pixels in images.items()}

    def _look(self, pixels: np.ndarray) -> result_pb2.ImagePrediction:
        height, width, _ = pixels.shape
        mean = pixels.reshape(-1, 3).mean(axis=0)
        prediction = result_pb2.ImagePrediction(width=width, height=height)
        prediction.timings.inference_ms = 1
        if self._environment.kind == "embed":
            prediction.embedding.values.extend(mean / 255)
            return prediction
        if self._environment.kind.endswith("_faces"):
            prediction.faces.add(box=result_pb2.BoundingBox(x_max=width, y_max=height), confidence=1)
            return prediction
        distance = {name: float(np.abs(mean - colour).sum()) for name, colour in COLOURS.items()}
        nearest = sorted(distance, key=distance.__getitem__)
        for name in nearest[: self._environment.top_k]:
            class_id = list(COLOURS).index(name)
            prediction.classifications.add(
                class_id=class_id, class_name=name, confidence=1 - distance[name] / 765
            )
        box = result_pb2.BoundingBox(x_max=width, y_max=height)
        prediction.detections.add(class_name=nearest[0], confidence=0.9, box=box)
        return prediction
