"""The class that the agent, the zygote and the scripts find."""

import importlib
import os

from runners.faces import manifest
from runners.faces.files import is_of_torch
from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from visionmesh.v1 import runner_pb2

_ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    # One thread until OpenCV is told otherwise: a process that is forked must have only one.
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "ERROR",
}

# Imported by name: they bring OpenCV, and the agent must stay without it. torch is not among them:
# only a vector by a classifier needs it, and finding faces should start at once.
_HEAVY = tuple(f"runners.faces.{name}" for name in ("haar", "yunet", "sface", "inference"))


class Faces(Framework):
    """Faces by OpenCV, vectors of them by SFace or a classifier."""

    name = "faces"
    packages = ("opencv-python", "opencv-python-headless", "numpy", "pillow", "torch", "timm")

    def manifest(self) -> runner_pb2.FrameworkManifest:
        """Detectors, embedders and settings; does not import OpenCV."""
        return manifest.manifest()

    def preload(self) -> None:
        """Import OpenCV."""
        os.environ.update(_ENVIRONMENT)
        for module in _HEAVY:
            importlib.import_module(module)

    def device(self, environment: JobEnvironment) -> str:
        """OpenCV computes on the CPU; models of the mesh on the first GPU, or where the job says.

        Raises UserError if there is no such device.
        """
        paths = (environment.checkpoint_path, environment.embedding_checkpoint_path)
        if any(is_of_torch(path) for path in paths):
            from runners.pytorch import device

            return device.choose(environment.device, environment.gpus)
        if environment.device not in (None, "cpu"):
            raise UserError(f"DEVICE is {environment.device!r}, but OpenCV computes on the CPU. Unset it.")
        return "cpu"

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Find faces, and turn them into vectors if the job says so."""
        os.environ.update(_ENVIRONMENT)
        from runners.faces import detect, embed

        work = {"detect_faces": detect.detect, "embed_faces": embed.embed}
        if environment.kind not in work:
            raise UserError(
                f"The faces framework runs {' and '.join(work)}; KIND is {environment.kind!r}.",
                reason="UNSUPPORTED",
            )
        work[environment.kind](environment, self.device(environment), emitter, commands)
