"""The class that the agent, the zygote and the scripts find."""

import importlib
from pathlib import Path

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.ultralytics import isolation, manifest
from visionmesh.v1 import runner_pb2

# Imported by name: they bring torch, and the agent must stay without it.
_HEAVY = (
    *(f"runners.ultralytics.{name}" for name in ("reporter", "validator", "predictor", "embedder")),
    "runners.pytorch.confusion",
    "runners.vision.inference",
    "torch._inductor.config",  # torch imports it for seconds when it is made deterministic
)


class Ultralytics(Framework):
    """YOLO, RT-DETR and SAM by ultralytics (AGPL-3.0)."""

    name = "ultralytics"
    packages = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python", "opencv-python-headless")
    _isolated = False

    def manifest(self) -> runner_pb2.FrameworkManifest:
        """Models, tasks and hyperparameters; imports neither torch nor ultralytics."""
        return manifest.manifest()

    def preload(self) -> None:
        """Import torch and ultralytics, offline and with restricted checkpoint loading."""
        self.isolate()
        for module in _HEAVY:
            importlib.import_module(module)

    def device(self, environment: JobEnvironment) -> str:
        """cpu, mps or cuda:{index}; the first GPU if there is one and nothing is said."""
        self.isolate()
        from runners.pytorch import device

        return device.choose(environment.device, environment.gpus)

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Train, validate, infer or embed."""
        self.isolate()
        from runners.ultralytics import embed, evaluate, logs, predict, train

        work = {
            "train": train.train,
            "validate": evaluate.evaluate,
            "infer": predict.predict,
            "embed": embed.embed,
        }
        with logs.to_emitter(emitter):
            work[environment.kind](environment, self.device(environment), emitter, commands)

    def fetch_weights(self, model: str, folder: Path, mirror: str) -> Path:
        """What ultralytics has published, as a .pt file."""
        self.isolate()
        from runners.ultralytics import weights

        return weights.fetch(model, folder, mirror)

    def isolate(self) -> None:
        """What comes before anything else of ultralytics: offline, nothing executed, no user settings."""
        if not Ultralytics._isolated:
            isolation.isolate()
            isolation.silence()
            Ultralytics._isolated = True
