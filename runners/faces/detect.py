"""Finds faces: `IMAGE_PATHS=… python -m runners.faces.detect`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.faces import manifest
from runners.faces.files import is_of_torch
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.process.hyperparameters import with_types
from visionmesh.v1 import vision_pb2

if TYPE_CHECKING:
    from runners.faces.detector import Detector


def detect(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Find faces by `environment`: one event per image, in order of index, as soon as it is made.

    An image that cannot be read is an error entry.
    """
    from runners.faces.inference import FaceInference, Finder
    from runners.vision import images

    emitter.stage(vision_pb2.STAGE_STARTING)
    listed = images.list_images(environment.image_paths)
    emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
    finder = Finder(environment, settings(environment), detector_of(environment, device))
    emitter.stage(vision_pb2.STAGE_PREDICTING, f"{len(listed)} images")
    FaceInference(environment, finder, listed, emitter, commands).run()


def settings(environment: JobEnvironment) -> dict[str, Any]:
    """All of the manifest's settings, as given or by default."""
    return manifest.defaults() | with_types(manifest.manifest(), environment.hyperparameters)


def detector_of(environment: JobEnvironment, device: str) -> "Detector":
    """The detector that is named, or that the checkpoint is of. Raises UserError."""
    import cv2

    from runners.faces import haar, yunet

    cv2.setNumThreads(environment.cpu_threads or len(os.sched_getaffinity(0)))
    path = environment.checkpoint_path
    name = environment.model_name or _detector_by_file(path)
    if name not in manifest.detectors():
        known = ", ".join(manifest.detectors())
        raise UserError(f"There is no face detector {name!r}; known: {known}.", reason="UNKNOWN_MODEL")
    if name == "yunet":
        return yunet.YuNet(path, settings(environment), environment.confidence_threshold)
    if name == "ultralytics":
        return _trained_here(environment, device)
    if path is not None:
        raise UserError(f"{name} brings its own weights: leave out the checkpoint, or the model's name.")
    return haar.Haar(name, settings(environment))


def _detector_by_file(path: Path | None) -> str:
    if path is None:
        return manifest.DEFAULT_DETECTOR
    return "ultralytics" if is_of_torch(path) else "yunet"


def _trained_here(environment: JobEnvironment, device: str) -> "Detector":
    try:
        from runners.faces.trained import Trained
    except ModuleNotFoundError as missing:
        raise UserError(
            f"A detector of ultralytics needs {missing.name}, which is not installed on this runner. Install "
            "visionmesh[ultralytics] there, or use yunet.",
            reason="UNSUPPORTED",
        ) from missing
    return Trained(environment, settings(environment), device)


if __name__ == "__main__":
    from runners.faces.framework import Faces

    raise SystemExit(run("detect_faces", Faces()))
