"""Predicts on images: `CHECKPOINT_PATH=… IMAGE_PATHS=… python -m runners.ultralytics.predict`."""

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped
from runners.process.hyperparameters import with_types
from runners.ultralytics import manifest
from visionmesh.names import artifact_name
from visionmesh.v1 import process_pb2, result_pb2, vision_pb2

if TYPE_CHECKING:
    import numpy as np

    from runners.ultralytics.checkpoints import Checkpoint
    from runners.ultralytics.images import ImageFile
    from runners.ultralytics.predictor import Detector


def predict(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Predict by `environment`: one event per image, in order of index, as soon as it is made.

    An image that cannot be read is an error entry. On Stopped the totals so far are published
    before it passes on.
    """
    from runners.ultralytics import checkpoints, images, predictor, threads

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
    _Inference(environment, detector, listed, emitter, commands).run()


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


class _Inference:
    """Goes through the images chunk by chunk, and keeps the totals."""

    def __init__(
        self,
        environment: JobEnvironment,
        detector: "Detector",
        listed: "list[ImageFile]",
        emitter: Emitter,
        commands: Commands,
    ) -> None:
        self._environment = environment
        self._detector = detector
        self._listed = listed
        self._emitter = emitter
        self._commands = commands
        self._failed = 0
        self._predicted = 0
        self._inference_ms = 0.0
        self._per_class: Counter[str] = Counter()
        self._began = time.monotonic()

    def run(self) -> None:
        todo = self._listed[self._environment.first_image_index :]
        size = self._environment.batch_size
        try:
            for start in range(0, len(todo), size):
                self._commands.poll()
                self._chunk(todo[start : start + size])
        except Stopped:
            self._emitter.inference_result(self._totals())
            raise
        self._emitter.stage(vision_pb2.STAGE_FINISHING)
        self._emitter.inference_result(self._totals())

    def _chunk(self, chunk: "list[ImageFile]") -> None:
        from runners.ultralytics import images

        pixels: dict[int, np.ndarray] = {}
        broken: dict[int, result_pb2.ImagePrediction] = {}
        for image in chunk:
            try:
                pixels[image.index] = images.read(image)
            except images.UnreadableImage as error:
                broken[image.index] = result_pb2.ImagePrediction(error=error.status())
        found = dict(zip(pixels, self._detector.predict(list(pixels.values())), strict=True))
        for image in chunk:
            prediction = broken.get(image.index) or found[image.index]
            prediction.index, prediction.image_uri = image.index, image.uri
            if image.index in found:
                self._keep(pixels[image.index], prediction)
            self._emitter.prediction(prediction)
        self._failed += len(broken)
        self._tell_progress()

    def _keep(self, pixels: "np.ndarray", prediction: result_pb2.ImagePrediction) -> None:
        self._predicted += 1
        self._inference_ms += prediction.timings.inference_ms
        self._per_class.update(detection.class_name for detection in prediction.detections)
        if not self._environment.save_overlays:
            return
        from runners.ultralytics import overlays

        name = f"overlays/{prediction.index}.jpg"
        overlays.draw(pixels, prediction, self._environment.output_path / name)
        prediction.overlay_artifact = artifact_name(self._environment.job_id, name)
        self._emitter.file(
            process_pb2.OutputFile(
                path=name, artifact=name, kind=result_pb2.ARTIFACT_KIND_OVERLAY, content_type="image/jpeg"
            )
        )

    def _tell_progress(self) -> None:
        now_done = self._predicted + self._failed
        done, total = self._environment.first_image_index + now_done, len(self._listed)
        seconds = time.monotonic() - self._began
        self._emitter.images(done, total, self._failed, seconds / now_done * (total - done))

    def _totals(self) -> result_pb2.InferenceResult:
        """Of this attempt: predictions of earlier ones are in the store, not here."""
        return result_pb2.InferenceResult(
            total_images=self._predicted + self._failed,
            failed_images=self._failed,
            total_inference_time_ms=self._inference_ms,
            avg_inference_time_ms=self._inference_ms / self._predicted if self._predicted else 0.0,
            detections_per_class=self._per_class,
        )


if __name__ == "__main__":
    from runners.ultralytics.framework import Ultralytics

    raise SystemExit(run("infer", Ultralytics()))
