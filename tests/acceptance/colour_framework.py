"""A framework so small that a job takes a tenth of a second: it learns a class from an image's mean colour.

Loaded by job processes as "colour_framework:Colours", with this folder on PYTHONPATH.
"""

import math
import time
from pathlib import Path

from PIL import Image, ImageStat

from runners.framework import Framework
from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from visionmesh.v1 import progress_pb2, result_pb2, runner_pb2, vision_pb2

Sample = tuple[list[float], int]
PACE_SECONDS = 0.01


class Colours(Framework):
    """Logistic regression, one class against the other."""

    name = "colours"
    packages = ("pillow",)

    def manifest(self) -> runner_pb2.FrameworkManifest:
        models = [runner_pb2.ModelInfo(name=name) for name in ("logistic", "logistic_talkative")]
        return runner_pb2.FrameworkManifest(
            framework="colours", version="1", kinds=["train"], models=models, tasks=[vision_pb2.TASK_CLASSIFY]
        )

    def preload(self) -> None:
        Image.init()

    def device(self, environment: JobEnvironment) -> str:
        return "cpu"

    def run(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        samples = read(environment.dataset_path)
        talkative = environment.model_name == "logistic_talkative"
        emitter.stage(vision_pb2.STAGE_TRAINING, f"{len(samples)} images")
        weights, loss = [0.0] * 4, math.inf
        for epoch in range(1, environment.epochs + 1):
            commands.poll()
            weights, loss = step(weights, samples)
            metrics = {"train_loss": loss, "accuracy_top1": accuracy(weights, samples)}
            if talkative:
                metrics |= {
                    f"weight_{index}_after_{'many' * 9}_{copy}": w
                    for index, w in enumerate(weights)
                    for copy in range(40)
                }
            emitter.epoch(
                epoch,
                environment.epochs,
                metrics,
                learning_rate=1.0,
                duration_s=PACE_SECONDS,
                eta_s=0,
                is_best=True,
            )
            if not talkative:
                time.sleep(PACE_SECONDS)
        emitter.log(progress_pb2.LOG_LEVEL_INFO, f"weights {weights}")
        emitter.training_result(
            result_pb2.TrainingResult(best_epoch=environment.epochs, final_metrics={"train_loss": loss})
        )


def read(folder: Path) -> list[Sample]:
    """Mean colour and class of each image."""
    samples = []
    for path in sorted((folder / "images" / "train").iterdir()):
        with Image.open(path) as image:
            mean = ImageStat.Stat(image.convert("RGB")).mean
        label = (folder / "labels" / "train" / f"{path.stem}.txt").read_text().split()[0]
        samples.append(([1.0, *(part / 255 for part in mean)], int(label)))
    return samples


def probability(weights: list[float], features: list[float]) -> float:
    score = sum(w * x for w, x in zip(weights, features, strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


def step(weights: list[float], samples: list[Sample]) -> tuple[list[float], float]:
    """One step down the gradient; the new weights and the loss before."""
    gradient, loss = [0.0] * len(weights), 0.0
    for features, label in samples:
        guess = probability(weights, features)
        loss -= math.log(max(1e-12, guess if label else 1 - guess))
        for index, feature in enumerate(features):
            gradient[index] += (guess - label) * feature
    return [w - g / len(samples) for w, g in zip(weights, gradient, strict=True)], loss / len(samples)


def accuracy(weights: list[float], samples: list[Sample]) -> float:
    return sum((probability(weights, x) > 0.5) == bool(label) for x, label in samples) / len(samples)
