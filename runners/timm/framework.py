"""The class that the agent, the zygote and the scripts find."""

import importlib
from pathlib import Path

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.pytorch import surroundings
from runners.timm import manifest
from visionmesh.v1 import runner_pb2

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
        surroundings.prepare()
        for module in _HEAVY:
            importlib.import_module(module)

    def device(self, environment: JobEnvironment) -> str:
        """cpu, mps or cuda:{index}; the first GPU if there is one and nothing is said."""
        surroundings.prepare()
        from runners.pytorch import device

        return device.choose(environment.device, environment.gpus, several=environment.kind == "train")

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Train, validate, infer or embed."""
        surroundings.prepare()
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

    def fetch_weights(self, model: str, folder: Path, mirror: str) -> Path:
        """What timm knows to be published, as this framework writes checkpoints."""
        from runners.timm import weights

        return weights.fetch(model, folder, mirror)
