"""A framework whose trainings go on from a checkpoint, and wait where a test wants them to."""

import json
import os
import tempfile
import time
from pathlib import Path

from plain_framework import Plain

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped
from visionmesh.v1 import process_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2

NOTES = "told"
"""Folder, in that for temporary files, of what each attempt told: a line per epoch."""


class Paced(Plain):
    """Its model "paced" trains; the others are those of the plain framework."""

    name = "paced"

    def manifest(self) -> runner_pb2.FrameworkManifest:
        """What it can do."""
        made = super().manifest()
        made.framework = "paced"
        models = ("paced", "killed", "deaf")
        made.models.extend(runner_pb2.ModelInfo(name=name, tasks=made.tasks) for name in models)
        settings = {
            "hold_after": "After this epoch the first attempt waits until it is stopped.",
            "epoch_ms": "Time that an epoch takes.",
            "checkpoint_kib": "Size of a checkpoint beyond its number.",
        }
        for name, description in settings.items():
            made.hyperparameters.add(
                name=name, type=runner_pb2.HYPERPARAMETER_TYPE_INT, description=description
            )
        return made

    def paced(self, environment: JobEnvironment, emitter: Emitter, commands: Commands) -> None:
        """An epoch is a nap; its checkpoint holds its number."""
        emitter.stage(vision_pb2.STAGE_TRAINING)
        epoch, told_by = _behind(environment)
        published = epoch
        hold_after = int(environment.hyperparameters.get("hold_after", 0))
        try:
            while epoch < environment.epochs:
                commands.poll()
                time.sleep(environment.hyperparameters.get("epoch_ms", 0) / 1000)
                epoch, told_by = epoch + 1, environment.attempt
                _tell(environment, emitter, epoch)
                if epoch - published >= environment.checkpoint_period:
                    _publish(environment, emitter, epoch)
                    published = epoch
                while environment.attempt == 1 and epoch == hold_after:
                    commands.poll()
                    time.sleep(0.01)
        except Stopped:
            if epoch > published:
                _publish(environment, emitter, epoch)
            raise
        last = _metrics(environment, epoch, told_by)
        emitter.training_result(
            result_pb2.TrainingResult(
                best_epoch=epoch, epochs_completed=epoch, best_metrics=last, final_metrics=last
            )
        )


def _behind(environment: JobEnvironment) -> tuple[int, int]:
    """The last epoch of the checkpoint, and the attempt that told it."""
    if not environment.resume or environment.checkpoint_path is None:
        return 0, 0
    first_line, _, _ = environment.checkpoint_path.read_bytes().partition(b"\n")
    _, epoch, _, attempt = first_line.split()
    return int(epoch), int(attempt)


def _tell(environment: JobEnvironment, emitter: Emitter, epoch: int) -> None:
    metrics = _metrics(environment, epoch, environment.attempt)
    _note(environment, epoch, metrics)
    emitter.epoch(
        epoch, environment.epochs, metrics, learning_rate=0.1, duration_s=0.1, eta_s=1.0, is_best=True
    )


def _metrics(environment: JobEnvironment, epoch: int, attempt: int) -> dict[str, float]:
    # What another attempt tells of this epoch is something else.
    return {"mAP50": epoch / environment.epochs, "told_by": attempt + epoch / 1000}


def _note(environment: JobEnvironment, epoch: int, metrics: dict[str, float]) -> None:
    """Where a test wants to compare, keep what is about to be told, out of reach of all that can lose it."""
    folder = Path(tempfile.gettempdir()) / NOTES
    if folder.is_dir():
        with (folder / f"{environment.job_id}-{environment.attempt}").open("a") as notes:
            notes.write(json.dumps([epoch, metrics]) + "\n")


def _publish(environment: JobEnvironment, emitter: Emitter, epoch: int) -> None:
    part = environment.output_path / "last.part"
    kib = int(environment.hyperparameters.get("checkpoint_kib", 0))
    with part.open("wb") as file:
        file.write(f"epoch {epoch} of {environment.attempt}\n".encode())
        for start in range(0, kib, 1024):
            file.write(os.urandom(1024 * min(1024, kib - start)))
    part.replace(environment.output_path / "last.pt")
    emitter.file(
        process_pb2.OutputFile(
            path="last.pt",
            artifact="last",
            kind=result_pb2.ARTIFACT_KIND_CHECKPOINT,
            content_type="application/octet-stream",
            checkpoint=progress_pb2.CheckpointSaved(epoch=epoch, resumable=True),
        )
    )
