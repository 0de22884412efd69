"""Predicts on images: `CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.ultralytics.predict`."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.process.hyperparameters import with_types
from runners.ultralytics import manifest
from visionmesh.v1 import vision_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from runners.ultralytics.checkpoints import Checkpoint
    from runners.vision.inference import Predictor


def predict(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Predict by `environment`, as `look` does."""
    look(_looking, environment, device, emitter, commands)


def look(
    made: "Callable[[JobEnvironment, Checkpoint, dict[str, Any]], Predictor]",
    environment: JobEnvironment,
    device: str,
    emitter: Emitter,
    commands: Commands,
) -> None:
    """Look at the images with what is `made` from the job, its checkpoint and ultralytics' arguments.

    One event per image, in order of index, as soon as it is made. An image that cannot be read is an
    error entry. On Stopped the totals so far are published before it passes on.
    """
    from runners.pytorch import threads
    from runners.ultralytics import checkpoints
    from runners.vision import images
    from runners.vision.inference import Inference

    emitter.stage(vision_pb2.STAGE_STARTING)
    listed = images.list_images(environment.image_paths)
    work = environment.output_path.absolute() / "work"
    try:
        emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
        checkpoint = checkpoints.load(environment.checkpoint_path, work)
        checkpoint.check_task(environment.task)
        looking = made(environment, checkpoint, _arguments(environment, checkpoint, device, work))
        threads.use(environment.cpu_threads)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    emitter.stage(vision_pb2.STAGE_PREDICTING, f"{len(listed)} images")
    Inference(environment, looking, listed, emitter, commands).run()


def _looking(environment: JobEnvironment, checkpoint: "Checkpoint", arguments: dict[str, Any]) -> "Predictor":
    from runners.ultralytics import predictor, sam

    if checkpoint.family == "sam":
        return sam.Outliner(checkpoint.model, arguments, environment.prompts)
    if environment.prompts:
        raise UserError(
            f"PROMPTS is set, and {checkpoint.path.name} takes none: it finds what it was trained for. "
            "Leave the prompts out, or use a checkpoint of SAM or SAM 2.",
            reason="UNSUPPORTED",
        )
    return predictor.Finder(checkpoint, arguments, environment.top_k)


def _arguments(
    environment: JobEnvironment, checkpoint: "Checkpoint", device: str, work: Path
) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "conf": environment.confidence_threshold,
        "iou": environment.iou_threshold,
        "max_det": environment.max_detections,
        "imgsz": environment.image_size or checkpoint.image_size,
        "device": device,
        "batch": environment.batch_size,
        "rect": True,
        "verbose": False,
        "save": False,
        "save_dir": str(work / "predicted"),
    }
    return chosen | with_types(manifest.manifest(), environment.hyperparameters)


if __name__ == "__main__":
    from runners.ultralytics.framework import Ultralytics

    raise SystemExit(run("infer", Ultralytics()))
