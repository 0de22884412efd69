"""Turns faces into vectors: `EMBEDDING_CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.faces.embed`."""

from typing import TYPE_CHECKING

from runners.faces import detect, manifest
from runners.faces.files import is_of_torch
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import vision_pb2

if TYPE_CHECKING:
    from runners.faces.inference import Embedder


def embed(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Find faces and turn each into a vector by `environment`, as `detect.detect` does the first half."""
    from runners.faces.inference import FaceInference, Finder
    from runners.vision import images

    emitter.stage(vision_pb2.STAGE_STARTING)
    if environment.embedding_checkpoint_path is None:
        raise UserError(
            "EMBEDDING_CHECKPOINT_PATH is not set, and vectors of random weights say nothing. Set it to the "
            "best checkpoint of a timm training, or to the ONNX file of an SFace.",
            reason="CHECKPOINT_NOT_FOUND",
        )
    listed = images.list_images(environment.image_paths)
    emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
    found_by = detect.detector_of(environment, device)
    finder = Finder(environment, detect.settings(environment), found_by, _embedder_of(environment, device))
    emitter.stage(vision_pb2.STAGE_PREDICTING, f"{len(listed)} images")
    FaceInference(environment, finder, listed, emitter, commands).run()


def _embedder_of(environment: JobEnvironment, device: str) -> "Embedder":
    """What is named, or what the checkpoint is of. Raises UserError."""
    path, normalize = environment.embedding_checkpoint_path, environment.normalize
    name = environment.embedding_model_name or ("timm" if is_of_torch(path) else "sface")
    if name not in manifest.embedders():
        known = ", ".join(manifest.embedders())
        raise UserError(f"Nothing called {name!r} turns faces into vectors; known: {known}.")
    if name == "sface":
        from runners.faces import sface

        return sface.SFace(path, normalize=normalize)
    try:
        from runners.faces import classifier
        from runners.pytorch import threads
    except ModuleNotFoundError as missing:
        raise UserError(
            f"Vectors by a classifier need {missing.name}, which is not installed on this runner. Install "
            "visionmesh[timm] there, or use sface.",
            reason="UNSUPPORTED",
        ) from missing
    threads.use(environment.cpu_threads)
    return classifier.ClassifierVectors(path, device, normalize=normalize)


if __name__ == "__main__":
    from runners.faces.framework import Faces

    raise SystemExit(run("embed_faces", Faces()))
