"""The class that the agent, the zygote and the scripts find."""

import importlib

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.ultralytics import isolation, manifest
from visionmesh.v1 import runner_pb2

# Imported by name: they bring torch, and the agent must stay without it.
_HEAVY = (
    *(
        f"runners.ultralytics.{name}"
        for name in ("reporter", "validator", "confusion", "predictor", "overlays")
    ),
    "torch._inductor.config",  # torch imports it for seconds when it is made deterministic
)


class Ultralytics(Framework):
    """YOLO detectors by ultralytics (AGPL-3.0)."""

    name = "ultralytics"
    packages = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python", "opencv-python-headless")
    _isolated = False

    def manifest(self) -> runner_pb2.FrameworkManifest:
        """Models, tasks and hyperparameters; imports neither torch nor ultralytics."""
        return manifest.manifest()

    def preload(self) -> None:
        """Import torch and ultralytics, offline and with restricted checkpoint loading."""
        self._isolate()
        for module in _HEAVY:
            importlib.import_module(module)

    def device(self, environment: JobEnvironment) -> str:
        """cpu, mps or cuda:{index}; the first GPU if there is one and nothing is said."""
        self._isolate()
        import torch

        wanted = environment.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        if wanted.startswith("cuda"):
            return _cuda(wanted, torch.cuda.device_count() if torch.cuda.is_available() else 0)
        if wanted == "mps" and not torch.backends.mps.is_available():
            raise UserError("DEVICE is 'mps', which this machine does not have. Use cpu, or leave it out.")
        if wanted not in ("cpu", "mps"):
            raise UserError(f"DEVICE is {wanted!r}; it must be cpu, mps, cuda or cuda:0.")
        return wanted

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """Train, validate or infer."""
        self._isolate()
        from runners.ultralytics import evaluate, logs, predict, train

        if environment.task != "detect":
            raise UserError(
                f"This version trains and runs detectors; TASK is {environment.task!r}. Use detect.",
                reason="UNSUPPORTED",
            )
        work = {"train": train.train, "validate": evaluate.evaluate, "infer": predict.predict}
        with logs.to_emitter(emitter):
            work[environment.kind](environment, self.device(environment), emitter, commands)

    def _isolate(self) -> None:
        if not Ultralytics._isolated:
            isolation.isolate()
            isolation.silence()
            Ultralytics._isolated = True


def _cuda(wanted: str, count: int) -> str:
    index = wanted.removeprefix("cuda").removeprefix(":") or "0"
    if "," in index:
        raise UserError(f"DEVICE is {wanted!r}; one job uses one GPU in this version. Name one, as cuda:0.")
    if not index.isdecimal() or int(index) >= count:
        raise UserError(f"DEVICE is {wanted!r}, but there are {count} GPUs here. Use cpu, or leave it out.")
    return f"cuda:{index}"
