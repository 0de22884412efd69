"""Trains a detector: `EPOCHS=3 DATASET_PATH=… python -m runners.ultralytics.train`."""

import csv
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped, UserError
from runners.process.history import History
from runners.process.hyperparameters import with_types
from runners.pytorch.resuming import NOTHING_TO_RESUME, starting_point
from runners.ultralytics import dataset, manifest, metrics, models
from runners.ultralytics.models import Model
from visionmesh.v1 import progress_pb2, vision_pb2

if TYPE_CHECKING:
    from runners.ultralytics.checkpoints import Checkpoint
    from runners.ultralytics.reporter import Reporter
    from runners.ultralytics.trainer import Training


def train(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Train by `environment`, telling each epoch, and leave best.pt and last.pt below its output path.

    Raises UserError for what the user can mend. On Stopped, the last complete epoch's checkpoint and
    a partial result are published before it passes on.
    """
    emitter.stage(vision_pb2.STAGE_STARTING, "checking the dataset")
    work = environment.output_path.absolute() / "work"
    try:
        _train(environment, device, work, emitter, commands)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _train(
    environment: JobEnvironment,
    device: str,
    work: Path,
    emitter: Emitter,
    commands: Commands,
) -> None:
    # Imported here: they bring torch, which must come after isolation.
    from runners.ultralytics import checkpoints
    from runners.ultralytics.reporter import Reporter

    environment, start = starting_point(
        environment, lambda path: checkpoints.load(path, work), _check_resumable, emitter
    )
    model = _model(environment, start)
    _check_primary_metric(environment, model.task)
    data = dataset.prepare(environment.dataset_path, work, ("train", "val"), model.task)
    commands.poll()
    primary_metric = environment.primary_metric or metrics.default_metric(model.task)
    history = History(primary_metric, environment.primary_metric_mode)
    if environment.resume:
        _read_past(start, history, work)
    reporter = Reporter(environment, history, emitter, commands)
    total = _total_epochs(environment, start)
    stopped_early = False
    if not (environment.resume and start is not None and start.epochs_completed >= total):
        stopped_early = _fit(environment, device, model, data, work, start, reporter, emitter)
    elif start is not None:
        _finished_before(environment, start, history, emitter)
    _measure_best(environment, device, data, work, emitter, commands)
    emitter.training_result(reporter.result(data.class_names, stopped_early=stopped_early))


def _fit(
    environment: JobEnvironment,
    device: str,
    model: Model,
    data: dataset.Dataset,
    work: Path,
    start: "Checkpoint | None",
    reporter: "Reporter",
    emitter: Emitter,
) -> bool:
    """The training itself; whether it ended because it no longer improved."""
    training = _build(environment, device, model, data, work, start, reporter)
    try:
        training.train()
    except Stopped:
        if reporter.history.epochs:
            reporter.publish()
        else:
            emitter.log(progress_pb2.LOG_LEVEL_WARNING, NOTHING_TO_RESUME)
        emitter.training_result(reporter.result(data.class_names, stopped_early=False))
        raise
    finally:
        training.close()
    return bool(training.epoch + 1 < training.epochs)


def _build(
    environment: JobEnvironment,
    device: str,
    model: Model,
    data: dataset.Dataset,
    work: Path,
    start: "Checkpoint | None",
    reporter: "Reporter",
) -> "Training":
    from runners.ultralytics.trainer import TRAININGS

    hyperparameters = with_types(manifest.manifest(), environment.hyperparameters)
    overrides = arguments(environment, device, model, data.source, work, hyperparameters)
    if environment.resume and start is not None:
        overrides |= {"resume": str(start.path), "model": str(start.path)}
    elif start is not None and environment.model_name is None:
        overrides |= {"model": str(start.path), "pretrained": True}
    elif start is not None:
        overrides["pretrained"] = str(start.path)
    try:
        return TRAININGS[model.family, model.task](
            overrides,
            reporter.callbacks(),
            score=reporter.history.score,
            bn_momentum=hyperparameters.get("bn_momentum"),
        )
    except (TypeError, ValueError) as error:  # ultralytics checks its settings once more
        raise UserError(f"ultralytics refuses a setting: {error}", reason="BAD_HYPERPARAMETER") from error


def arguments(
    environment: JobEnvironment,
    device: str,
    model: Model,
    source: Path,
    work: Path,
    hyperparameters: dict[str, Any],
) -> dict[str, Any]:
    """The job in ultralytics' words, for a training from scratch."""
    chosen: dict[str, Any] = {
        "task": model.task,
        "mode": "train",
        "model": f"{model.name}.yaml",
        "pretrained": False,
        "data": str(source),
        "epochs": environment.epochs,
        "batch": environment.batch_size,
        "device": device,
        "seed": environment.seed,
        "deterministic": True,
        "workers": 0 if device == "cpu" else 4,
        "plots": False,
        "save_dir": str(work / "run"),
        "project": str(work),
        "name": "run",
        "exist_ok": True,
    }
    optional = {
        "imgsz": environment.image_size,
        "lr0": environment.learning_rate,
        "optimizer": environment.optimizer,
        "patience": environment.patience,
    }
    chosen |= {name: value for name, value in hyperparameters.items() if name not in manifest.OURS}
    chosen |= {name: value for name, value in optional.items() if value is not None}
    if "lr0" in chosen and "optimizer" not in chosen:
        chosen["optimizer"] = "AdamW"  # "auto" would pay no heed to the learning rate
    # ultralytics' own check of half precision wants to download weights; bf16 needs none.
    chosen["amp"] = chosen.get("amp", "bf16") if device.startswith("cuda") else False
    return chosen


def _model(environment: JobEnvironment, start: "Checkpoint | None") -> Model:
    """What is to be trained: the model that is named, or that of the checkpoint, or the task's default."""
    from runners.ultralytics.evaluate import refuse_promptable

    if start is not None:
        start.check_task(environment.task)
        refuse_promptable(start)
    if environment.model_name is None or environment.resume:
        if start is None:
            return models.default(environment.task)
        return Model(start.path.stem, start.family, start.task, "the checkpoint's")
    model = models.model(environment.model_name)
    if environment.task not in (None, model.task):
        raise UserError(
            f"{model.name} does {model.task}, not {environment.task}. Leave TASK out, or name another "
            f"model, such as {models.default(environment.task).name!r}.",
            reason="UNSUPPORTED",
        )
    if model.is_promptable:
        raise UserError(
            f"{model.name} is not trained here: it outlines what prompts point at. Train another model.",
            reason="UNSUPPORTED",
        )
    if start is not None:
        start.check_task(model.task)
    return model


def _check_primary_metric(environment: JobEnvironment, task: str) -> None:
    known = metrics.primary_metrics(task)
    if environment.primary_metric is not None and environment.primary_metric not in known:
        raise UserError(
            f"PRIMARY_METRIC is {environment.primary_metric!r}, which {task} does not have. "
            f"Use one of {', '.join(known)}."
        )


def _total_epochs(environment: JobEnvironment, start: "Checkpoint | None") -> int:
    if environment.resume and start is not None:
        return int((start.content.get("train_args") or {}).get("epochs", environment.epochs))
    return environment.epochs


def _check_resumable(start: "Checkpoint | None") -> None:
    if start is None or not start.is_resumable:
        name = "not set" if start is None else start.path.name
        raise UserError(
            f"RESUME is true, but CHECKPOINT_PATH ({name}) holds no optimizer and epoch. "
            'Resume from a "last" checkpoint; "best" ones are stripped. Or unset RESUME.'
        )


def _read_past(start: "Checkpoint | None", history: History, work: Path) -> None:
    """Take over what the checkpoint remembers, and hand it on to the checkpoints to come."""
    if start is None:
        return
    results = start.content.get("train_results") or {}
    metrics.read_results(history, results)
    # ultralytics puts this file into each checkpoint, and would begin a new one.
    (work / "run").mkdir(parents=True, exist_ok=True)
    with (work / "run" / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(results)
        writer.writerows(zip(*results.values(), strict=True))


def _finished_before(
    environment: JobEnvironment, start: "Checkpoint", history: History, emitter: Emitter
) -> None:
    """The attempt before ended after its last epoch: only the rest is to be done."""
    from runners.ultralytics import checkpoints

    emitter.log(progress_pb2.LOG_LEVEL_INFO, f"All {start.epochs_completed} epochs were done before.")
    if history.best is not None and history.best.number == start.epochs_completed:
        checkpoints.write_best(start.path, environment.output_path / "best.pt")


def _measure_best(
    environment: JobEnvironment,
    device: str,
    data: dataset.Dataset,
    work: Path,
    emitter: Emitter,
    commands: Commands,
) -> None:
    """A confusion matrix of the best checkpoint on the validation split."""
    from runners.pytorch import confusion
    from runners.ultralytics import checkpoints, evaluate

    best = environment.output_path / "best.pt"
    if not best.exists():
        return  # it was made by an earlier attempt, and lies in the store
    emitter.stage(vision_pb2.STAGE_VALIDATING, "best checkpoint")
    checkpoint = checkpoints.load(best, work)
    measured = evaluate.measure(environment, checkpoint, data, "val", device, work, emitter, commands)
    emitter.stage(vision_pb2.STAGE_FINISHING)
    confusion.publish(measured.confusion_matrix, environment, emitter)


if __name__ == "__main__":
    from runners.ultralytics.framework import Ultralytics

    raise SystemExit(run("train", Ultralytics()))
