"""Finds faces with a detector or pose model that ultralytics has trained on faces."""

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from runners.faces.detector import LANDMARKS
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.ultralytics.framework import Ultralytics
from visionmesh.v1 import result_pb2

_FACE = "face"


class Trained:
    """One checkpoint. Its only class is the face, or the class of that name."""

    def __init__(self, environment: JobEnvironment, settings: Mapping[str, Any], device: str) -> None:
        """`settings` are all of the manifest's. Raises UserError if the checkpoint is no such model."""
        Ultralytics().isolate()
        from runners.pytorch import threads
        from runners.ultralytics import checkpoints, predictor

        work = environment.output_path.absolute() / "work"
        try:
            checkpoint = checkpoints.load(environment.checkpoint_path, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        names = checkpoint.class_names
        if checkpoint.task not in ("detect", "pose") or (len(names) > 1 and _FACE not in names):
            told = f"{checkpoint.path.name} is made for {checkpoint.task} of {', '.join(names[:5])}."
            instead = "Use a checkpoint for detect or pose with one class, or with one called 'face'."
            raise UserError(f"{told} {instead}")
        arguments = {
            "conf": environment.confidence_threshold,
            "iou": settings["nms_threshold"],
            "max_det": environment.max_detections,
            "imgsz": checkpoint.image_size,
            "device": device,
            "classes": [names.index(_FACE)] if len(names) > 1 else None,
            "rect": True,
            "verbose": False,
            "save": False,
            "save_dir": str(work / "predicted"),
        }
        self._finder = predictor.Finder(checkpoint, arguments, 1)
        threads.use(environment.cpu_threads)

    def find(self, image: np.ndarray) -> list[result_pb2.Face]:
        """The faces in an image (height x width x 3, blue first)."""
        return [
            result_pb2.Face(box=found.box, confidence=found.confidence, landmarks=landmarks(found))
            for found in self._finder.predict({0: image})[0].detections
        ]


def landmarks(found: result_pb2.Detection) -> Iterator[result_pb2.Keypoint]:
    """The five, if the model's keypoints have their names, in the order of `detector.LANDMARKS`."""
    points = {point.name: point for point in found.keypoints}
    if all(name in points for name in LANDMARKS):
        yield from (points[name] for name in LANDMARKS)
