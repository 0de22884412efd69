"""Measures a checkpoint: `CHECKPOINT_PATH=… DATASET_PATH=… python -m runners.ultralytics.evaluate`."""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.process.hyperparameters import with_types
from runners.process.rates import Rate
from runners.ultralytics import dataset, manifest, metrics
from visionmesh.v1 import progress_pb2, result_pb2, vision_pb2

if TYPE_CHECKING:
    from runners.ultralytics.checkpoints import Checkpoint
    from runners.ultralytics.validator import Measuring

_PER_CLASS = ("precision", "recall", "mAP50", "mAP50-95")


def evaluate(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Measure by `environment`, and leave pictures of the confusion matrix below its output path."""
    from runners.pytorch import confusion
    from runners.ultralytics import checkpoints

    emitter.stage(vision_pb2.STAGE_STARTING, "checking the dataset")
    work = environment.output_path.absolute() / "work"
    try:
        data = dataset.prepare(environment.dataset_path, work, (environment.split,))
        commands.poll()
        emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
        checkpoint = checkpoints.load(environment.checkpoint_path, work)
        _compare_classes(checkpoint.class_names, data.class_names, emitter)
        emitter.stage(vision_pb2.STAGE_VALIDATING, environment.split)
        result = measure(environment, checkpoint, data, environment.split, device, work, emitter, commands)
        emitter.stage(vision_pb2.STAGE_FINISHING)
        confusion.publish(result.confusion_matrix, environment, emitter)
        emitter.validation_result(result)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure(
    environment: JobEnvironment,
    checkpoint: "Checkpoint",
    data: dataset.Dataset,
    split: str,
    device: str,
    work: Path,
    emitter: Emitter,
    commands: Commands,
) -> result_pb2.ValidationResult:
    """Measure `checkpoint` on one split. Raises Stopped within a batch of a stop."""
    from runners.pytorch import threads
    from runners.ultralytics.validator import Measuring

    progress = _Progress(environment.batch_size, emitter, commands)
    callbacks: dict[str, list[Callable[[Any], None]]] = defaultdict(list)
    callbacks["on_val_start"].append(lambda _: threads.use(environment.cpu_threads))
    callbacks["on_val_batch_end"].append(progress.batch_done)
    validator = Measuring(
        _arguments(environment, checkpoint, data, split, device, work),
        callbacks,
        confidence=environment.confidence_threshold,
        iou=environment.iou_threshold,
    )
    measured = validator(model=checkpoint.model)
    return _result(environment, validator, measured)


class _Progress:
    def __init__(self, batch_size: int, emitter: Emitter, commands: Commands) -> None:
        self._batch_size = batch_size
        self._emitter = emitter
        self._commands = commands
        self._rate = Rate()
        self._rate.restart(time.monotonic())

    def batch_done(self, validator: "Measuring") -> None:
        self._commands.poll()
        self._rate.add(self._batch_size)
        total = len(validator.dataloader)
        if self._emitter.is_due("batch") or validator.batch_i + 1 == total:
            speed = self._rate.per_second(time.monotonic())
            self._emitter.batch(0, validator.batch_i + 1, total, loss=0.0, images_per_second=speed)


def _arguments(
    environment: JobEnvironment,
    checkpoint: "Checkpoint",
    data: dataset.Dataset,
    split: str,
    device: str,
    work: Path,
) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "task": "detect",
        "mode": "val",
        "model": str(checkpoint.path),
        "data": str(data.data_yaml),
        "split": split,
        "batch": environment.batch_size,
        "imgsz": environment.image_size or checkpoint.image_size or 640,
        "device": device,
        "iou": environment.iou_threshold,
        "max_det": environment.max_detections,
        "rect": True,
        "workers": 0 if device == "cpu" else 4,
        "plots": False,
        "save_dir": str(work / "measured"),
    }
    if environment.kind == "validate":  # a training's hyperparameters are for its own loop
        chosen |= with_types(manifest.manifest(), environment.hyperparameters)
    return chosen


def _result(
    environment: JobEnvironment, validator: "Measuring", measured: dict[str, float]
) -> result_pb2.ValidationResult:
    names = [validator.names[index] for index in range(len(validator.names))]
    found = validator.metrics
    measured.pop("fitness", None)
    per_class = [
        result_pb2.ClassMetrics(
            class_id=int(class_id),
            class_name=names[int(class_id)],
            images=int(found.nt_per_image[class_id]),
            instances=int(found.nt_per_class[class_id]),
            metrics=dict(zip(_PER_CLASS, map(float, found.class_result(row)), strict=True)),
        )
        for row, class_id in enumerate(found.ap_class_index)
    ]
    return result_pb2.ValidationResult(
        metrics=metrics.canonical(measured),
        per_class=per_class,
        confusion_matrix=result_pb2.ConfusionMatrix(
            labels=[*names, "background"],
            counts=validator.matrix.matrix.flatten().tolist(),
            confidence_threshold=environment.confidence_threshold,
            iou_threshold=environment.iou_threshold,
        ),
        images=int(validator.seen),
        instances=int(found.nt_per_class.sum()),
    )


def _compare_classes(model: tuple[str, ...], data: tuple[str, ...], emitter: Emitter) -> None:
    if len(model) != len(data):
        raise UserError(
            f"The checkpoint knows {len(model)} classes ({', '.join(model[:5])}), the dataset "
            f"{len(data)} ({', '.join(data[:5])}). Measure on a dataset with the checkpoint's classes."
        )
    if model != data:
        emitter.log(
            progress_pb2.LOG_LEVEL_WARNING,
            f"Class names differ: {', '.join(model)} in the checkpoint, {', '.join(data)} in the dataset. "
            "Classes are compared by their number.",
        )


if __name__ == "__main__":
    from runners.ultralytics.framework import Ultralytics

    raise SystemExit(run("validate", Ultralytics()))
