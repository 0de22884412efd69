"""Predicts on images: `CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.ultralytics.predict`."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.hyperparameters import with_types
from runners.ultralytics import manifest
from visionmesh.v1 import vision_pb2

if TYPE_CHECKING:
    from runners.ultralytics.checkpoints import Checkpoint


def predict(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Predict by `environment`: one event per image, in order of index, as soon as it is made.

    An image that cannot be read is an error entry. On Stopped the totals so far are published
    before it passes on.
    """
    from runners.pytorch import threads
    from runners.ultralytics import checkpoints, predictor
    from runners.vision import images
    from runners.vision.inference import Inference

    emitter.stage(vision_pb2.STAGE_STARTING)
    listed = images.list_images(environment.image_paths)
    work = environment.output_path.absolute() / "work"
    try:
        emitter.stage(vision_pb2.STAGE_LOADING_MODEL)
        checkpoint = checkpoints.load(environment.checkpoint_path, work)
        detector = predictor.Detector(checkpoint, _arguments(environment, checkpoint, device, work))
        threads.use(environment.cpu_threads)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    emitter.stage(vision_pb2.STAGE_PREDICTING, f"{len(listed)} images")
    Inference(environment, detector, listed, emitter, commands).run()


def _arguments(
    environment: JobEnvironment, checkpoint: "Checkpoint", device: str, work: Path
) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "conf": environment.confidence_threshold,
        "iou": environment.iou_threshold,
        "max_det": environment.max_detections,
        "imgsz": environment.image_size or checkpoint.image_size or 640,
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
