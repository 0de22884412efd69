"""Trains a classifier: `EPOCHS=3 DATASET_PATH=… python -m runners.timm.train`."""

from typing import TYPE_CHECKING, Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.entry import run
from runners.process.environment import JobEnvironment
from runners.process.errors import Stopped, UserError
from runners.process.history import History
from runners.process.hyperparameters import with_types
from runners.pytorch.resuming import NOTHING_TO_RESUME, starting_point
from runners.timm import manifest
from visionmesh.v1 import progress_pb2, vision_pb2

if TYPE_CHECKING:
    from runners.timm.classifier import Checkpoint


def train(environment: JobEnvironment, device: str, emitter: Emitter, commands: Commands) -> None:
    """Train by `environment`, telling each epoch, and leave both checkpoints below its output path.

    Raises UserError for what the user can mend. On Stopped, the last complete epoch's checkpoint and
    a partial result are published before it passes on.
    """
    from runners.pytorch import confusion, ranks, threads
    from runners.timm import classifier, data, training
    from runners.timm.output import Output

    emitter.stage(vision_pb2.STAGE_STARTING, "checking the dataset")
    history = History(_primary_metric(environment), environment.primary_metric_mode)
    names = data.check(environment.dataset_path, ("train", "val"))
    assert environment.dataset_path is not None  # noqa: S101 - it was checked
    commands.poll()
    settings = manifest.defaults() | with_types(manifest.manifest(), environment.hyperparameters)
    devices = _devices(device, settings["processes"], environment.batch_size)
    threads.use_share(environment.cpu_threads, len(devices))
    material = training.Material(environment.dataset_path, settings)
    environment, start = starting_point(
        environment, classifier.read, lambda start: _check_resumable(start, names), emitter
    )
    emitter.stage(vision_pb2.STAGE_LOADING_MODEL, environment.model_name or "")
    if environment.resume and start is not None:
        training.past(start.training, history)
    data.seed(environment.seed, 0)
    found = _classifier(environment, names, settings, start, emitter)
    output = Output(environment, emitter, len(history.epochs))
    kept = start.training if environment.resume and start is not None else {}
    scratch = environment.output_path.absolute() / "ranks"
    try:
        with ranks.together(devices, "runners.timm.training:follow", scratch, commands.poll) as all_of_us:
            size = found.preprocessing.size
            all_of_us.tell(training.Joint(environment, material, found.name, names, size, history, kept))
            going = training.Training(
                environment, found, material, history, output, emitter, commands, all_of_us
            )
            if kept:
                going.resume(kept)
            stopped_early = going.run()
    except Stopped:
        output.publish(history)
        if not history.epochs:
            emitter.log(progress_pb2.LOG_LEVEL_WARNING, NOTHING_TO_RESUME)
        emitter.training_result(history.result(environment.job_id, names, stopped_early=False))
        raise
    emitter.stage(vision_pb2.STAGE_FINISHING)
    if going.best is not None:  # else an earlier attempt has drawn it
        confusion.publish(going.best.result(names).confusion_matrix, environment, emitter)
    emitter.training_result(history.result(environment.job_id, names, stopped_early=stopped_early))


def _devices(device: str, processes: int, batch_size: int) -> list[str]:
    """One for each process: the GPUs of a list, or so many times the CPU as the job asks for."""
    from runners.pytorch.device import each

    devices = each(device)
    if device == "cpu":
        devices *= processes
    if len(devices) > batch_size:
        raise UserError(
            f"{len(devices)} processes cannot share a batch of {batch_size} images. Use a batch_size of "
            f"{len(devices)} or more, or fewer processes.",
            reason="BAD_HYPERPARAMETER",
        )
    return devices


def _primary_metric(environment: JobEnvironment) -> str:
    wanted = environment.primary_metric or manifest.METRICS[0]
    if wanted not in manifest.METRICS:
        raise UserError(
            f"PRIMARY_METRIC is {wanted!r}, which a classifier does not have. "
            f"Use one of {', '.join(manifest.METRICS)}."
        )
    return wanted


def _check_resumable(start: "Checkpoint | None", names: tuple[str, ...]) -> None:
    if start is None or not start.training:
        name = "not set" if start is None else start.path.name
        raise UserError(
            f"RESUME is true, but CHECKPOINT_PATH ({name}) holds no optimizer and epoch. "
            'Resume from a "last" checkpoint; "best" ones hold weights only. Or unset RESUME.'
        )
    if tuple(start.about["class_names"]) != names:
        text = "RESUME is true, but the dataset has other classes than the checkpoint. Unset RESUME."
        raise UserError(text)


def _classifier(
    environment: JobEnvironment,
    names: tuple[str, ...],
    settings: dict[str, Any],
    start: "Checkpoint | None",
    emitter: Emitter,
) -> Any:
    """The network to train: by name, or as the checkpoint says, with the checkpoint's weights."""
    from runners.timm import classifier, training

    about = {} if start is None else start.about
    name = environment.model_name or about.get("model")
    size = environment.image_size or about.get("preprocessing", {}).get("size")
    found = classifier.build(name, names, size, settings)
    if start is not None and environment.resume:
        found.network.load_state_dict(dict(start.weights))
    elif start is not None:
        training.started_from(start, found.network, emitter)
    return found


if __name__ == "__main__":
    from runners.timm.framework import Timm

    raise SystemExit(run("train", Timm()))
