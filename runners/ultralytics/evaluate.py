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


def evaluate(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Measure by `environment`, and leave pictures of the confusion matrix below its output path."""
    from runners.pytorch import confusion
    from runners.ultralytics import checkpoints

    work = environment.output_path.absolute() / "work"
    try:
        emitter.stage(vision_pb2.STAGE_STARTING)
        emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
        checkpoint = checkpoints.load(environment.checkpoint_path, work)
        checkpoint.check_task(environment.task)
        refuse_promptable(checkpoint)
        commands.poll()
        data = dataset.prepare(environment.dataset_path, work, (environment.split,), checkpoint.task)
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
    from runners.ultralytics.validator import VALIDATORS

    progress = _Progress(environment.batch_size, emitter, commands)
    callbacks: dict[str, list[Callable[[Any], None]]] = defaultdict(list)
    callbacks["on_val_start"].append(lambda _: threads.use(environment.cpu_threads))
    callbacks["on_val_batch_end"].append(progress.batch_done)
    validator = VALIDATORS[checkpoint.family, checkpoint.task](
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
        "task": checkpoint.task,
        "mode": "val",
        "model": str(checkpoint.path),
        "data": str(data.source),
        "split": split,
        "batch": environment.batch_size,
        "imgsz": environment.image_size or checkpoint.image_size,
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
    from runners.pytorch import classification

    names = [validator.names[index] for index in range(len(validator.names))]
    measured.pop("fitness", None)
    if validator.args.task == "classify":
        averages = classification.precision_and_recall(validator.matrix)
        return classification.result(validator.matrix, metrics.canonical(measured) | averages, names)
    found = validator.metrics
    per_class = [
        result_pb2.ClassMetrics(
            class_id=int(class_id),
            class_name=names[int(class_id)],
            images=int(found.nt_per_image[class_id]),
            instances=int(found.nt_per_class[class_id]),
            metrics=metrics.canonical(dict(zip(found.keys, found.class_result(row), strict=True))),
        )
        for row, class_id in enumerate(found.ap_class_index)
    ]
    return result_pb2.ValidationResult(
        metrics=metrics.canonical(measured),
        per_class=per_class,
        confusion_matrix=result_pb2.ConfusionMatrix(
            labels=[*names, "background"],
            counts=validator.matrix.flatten().tolist(),
            confidence_threshold=environment.confidence_threshold,
            iou_threshold=environment.iou_threshold,
        ),
        images=int(validator.seen),
        instances=int(found.nt_per_class.sum()),
    )


def refuse_promptable(checkpoint: "Checkpoint") -> None:
    """Raise UserError if it is one of SAM, which knows no classes to be measured or trained."""
    if checkpoint.family == "sam":
        raise UserError(
            f"{checkpoint.path.name} is one of SAM: it outlines what prompts point at, and can neither be "
            "trained nor measured here. Use it to infer.",
            reason="UNSUPPORTED",
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
