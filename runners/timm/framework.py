"""The class that the agent, the zygote and the scripts find."""

import importlib
import os

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.timm import manifest
from visionmesh.v1 import runner_pb2

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # without it each missing weight is asked for over and over
    "MPLBACKEND": "Agg",
    # One thread until torch is told otherwise: a process that is forked must have only one.
    "OPENBLAS_NUM_THREADS": "1",
}

# Imported by name: they bring torch, and the agent must stay without it.
_HEAVY = (
    *(f"runners.timm.{name}" for name in ("train", "training", "evaluate", "predict", "embed", "asking")),
    "runners.pytorch.confusion",
    "runners.vision.inference",
)


class Timm(Framework):
    """Image classifiers by timm."""

    name = "timm"
    packages = ("torch", "torchvision", "timm", "safetensors", "numpy", "pillow")

    def manifest(self) -> runner_pb2.FrameworkManifest:
        """Models, tasks and hyperparameters; imports neither torch nor timm."""
        return manifest.manifest()

    def preload(self) -> None:
        """Import torch and timm, offline."""
        os.environ.update(_ENVIRONMENT)
        for module in _HEAVY:
            importlib.import_module(module)

    def device(self, environment: JobEnvironment) -> str:
        """cpu, mps or cuda:{index}; the first GPU if there is one and nothing is said."""
        os.environ.update(_ENVIRONMENT)
        from runners.pytorch import device

        return device.choose(environment.device)

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Train, validate, infer or embed."""
        os.environ.update(_ENVIRONMENT)
        from runners.timm import embed, evaluate, predict, train

        if environment.task not in (None, "classify"):
            raise UserError(
                f"timm classifies images; TASK is {environment.task!r}. Use classify, or another framework.",
                reason="UNSUPPORTED",
            )
        work = {
            "train": train.train,
            "validate": evaluate.evaluate,
            "infer": predict.predict,
            "embed": embed.embed,
        }
        work[environment.kind](environment, self.device(environment), emitter, commands)
