"""What trainings and validations tell, and what they leave."""

import math
from collections.abc import Mapping
from typing import Any

from runners.framework_kit import watched
from runners.framework_kit.jobs import Jobs
from runners.framework_kit.play import Played
from runners.framework_kit.rules import expect
from visionmesh.names import artifact_name
from visionmesh.v1 import result_pb2, vision_pb2

_CANONICAL = (
    *("train_loss", "val_loss", "precision", "recall", "mAP50", "mAP50-95"),
    *("accuracy_top1", "accuracy_top5"),
)
_ALIASES = {
    **dict.fromkeys(("accuracy", "acc", "acc1", "top1", "val_acc", "val_accuracy"), "accuracy_top1"),
    **dict.fromkeys(("acc5", "top5"), "accuracy_top5"),
    **dict.fromkeys(("loss", "trainloss", "training_loss"), "train_loss"),
    **dict.fromkeys(("valloss", "validation_loss"), "val_loss"),
    **dict.fromkeys(("map50", "map_50", "ap50"), "mAP50"),
    **dict.fromkeys(("map", "map50-95", "map50_95", "map_50_95"), "mAP50-95"),
    **{name.lower(): name for name in _CANONICAL},
}
_TOLERANCE = 1e-6


def epochs(jobs: Jobs) -> str:
    """F15."""
    told = jobs.trained().updates("epoch_completed")
    asked = jobs.trial.epochs
    numbers = [epoch.epoch for epoch in told]
    expect(numbers == list(range(1, asked + 1)), "F15", f"of {asked} epochs it tells {numbers}")
    totals = {epoch.total_epochs for epoch in told}
    expect(totals == {asked}, "F15", f"the total is told as {sorted(totals)}, and {asked} were asked for")
    return f"epochs 1 to {asked}"


def metrics(jobs: Jobs) -> str:
    """F16."""
    found: set[str] = set()
    for epoch in jobs.trained().updates("epoch_completed"):
        _check_metrics("F16", f"epoch {epoch.epoch}", epoch.metrics)
        found |= set(epoch.metrics)
    expect(
        "train_loss" in found, "F16", f"there is no train_loss, only {', '.join(sorted(found)) or 'nothing'}"
    )
    primary = "accuracy_top1" if jobs.task == "classify" else "mAP50-95"
    expect(primary in found, "F16", f"{primary}, by which a job's best epoch is chosen, is not among them")
    return ", ".join(sorted(found & set(_CANONICAL)))


def checkpoints(jobs: Jobs) -> str:
    """F17."""
    played = jobs.trained()
    for artifact in ("best", "last"):
        jobs.checkpoint(played, artifact, "F17")
    for kept in played.files:
        if kept.file.artifact in {"best", "last"}:
            _check_checkpoint(kept.file)
    newest = [kept.file for kept in played.files if kept.file.artifact == "last"][-1]
    epoch = newest.checkpoint.epoch
    expect(epoch == jobs.trial.epochs, "F17", f"the newest last one is of epoch {epoch}")
    expect(newest.checkpoint.resumable, "F17", "last is not resumable")
    return f"{sum(kept.file.HasField('checkpoint') for kept in played.files)} announced"


def _check_checkpoint(file: Any) -> None:
    name = file.artifact
    expect(file.kind == result_pb2.ARTIFACT_KIND_CHECKPOINT, "F17", f"{name} is not of kind CHECKPOINT")
    expect(file.HasField("checkpoint"), "F17", f"{name} comes without its epoch; use Emitter.checkpoint")
    told = file.checkpoint
    wanted = {"epoch": str(told.epoch), "resumable": str(told.resumable).lower()}
    same = {key: file.metadata.get(key) for key in wanted} == wanted
    expect(same, "F17", f"{name}: its metadata {dict(file.metadata)} does not say what it is: {wanted}")


def result(jobs: Jobs) -> str:
    """F19."""
    told = jobs.trained().updates("epoch_completed")
    found = jobs.trained().results("training")
    expect(found, "F19", "there is no result")
    last, asked = found[-1], jobs.trial.epochs
    expect(last.epochs_completed == asked, "F19", f"it counts {last.epochs_completed} epochs of {asked}")
    by_number = {epoch.epoch: epoch for epoch in told}
    expect(last.best_epoch in by_number, "F19", f"its best epoch is {last.best_epoch}")
    _same("F19", "best_metrics", last.best_metrics, by_number[last.best_epoch].metrics)
    _same("F19", "final_metrics", last.final_metrics, told[-1].metrics)
    job_id = jobs.trained().environment.job_id
    named = {artifact_name(job_id, kept.file.artifact) for kept in jobs.trained().files}
    more = [name for name in last.checkpoints if name not in named]
    expect(
        last.checkpoints and not more,
        "F19",
        f"its checkpoints are {list(last.checkpoints)}, of {sorted(named)}",
    )
    expect(last.class_names, "F19", "it does not name the classes")
    return f"best epoch {last.best_epoch} of {asked}"


def polls(jobs: Jobs) -> str:
    """F20."""
    looks = jobs.trained().facts.get("polls", 0)
    wanted = jobs.trial.epochs * jobs.batches()
    expect(
        looks >= wanted, "F20", f"commands.poll() was called {looks} times, and there were {wanted} batches"
    )
    return f"{looks} looks for {wanted} batches"


def last_epoch(played: Played) -> int:
    """The last epoch that was told; 0 if none was."""
    return max((epoch.epoch for epoch in played.updates("epoch_completed")), default=0)


def stops(jobs: Jobs) -> str:
    """F21."""
    played = jobs.stopped()
    state = vision_pb2.ATTEMPT_STATE_CANCELLED
    held = any(line.message == watched.HELD for line in played.updates("log_line"))
    expect(held, "F21", f"it was never stopped: {played.story()}")
    expect(
        played.end is not None and played.end.outcome == state,
        "F21",
        f"it must let Stopped pass, and ended so: {played.story()}",
    )
    after = played.facts.get("epochs_after_stop")
    expect(after == 0, "F21", f"{after} epochs were told after the stop")
    done = last_epoch(played)
    last = [
        kept.file.checkpoint.epoch for kept in played.files if kept.file.artifact == "last" and kept.sha256
    ]
    expect(last[-1:] == [done], "F21", f"after {done} epochs it leaves last checkpoints of {last}")
    found = played.results("training")
    expect(found, "F21", "it leaves no result of what was done")
    counted = found[-1].epochs_completed
    expect(counted == done, "F21", f"its result counts {counted} epochs, and {done} were told")
    return f"stopped in epoch {done + 1}, last checkpoint of {done}"


def resumes(jobs: Jobs) -> str:
    """F22."""
    epochs(jobs)  # what cannot count to three is not asked to go on from one
    played, whole = jobs.resumed(), jobs.trained()
    expect(played.succeeded, "F22", f"it ends otherwise than well: {played.story()}")
    told = played.updates("epoch_completed")
    numbers, asked = [epoch.epoch for epoch in told], jobs.trial.epochs
    due = list(range(last_epoch(jobs.stopped()) + 1, asked + 1))
    expect(numbers == due, "F22", f"epochs {due} were left, and it tells {numbers}")
    rates = {epoch.epoch: epoch.learning_rate for epoch in whole.updates("epoch_completed")}
    for epoch in told:
        same = math.isclose(epoch.learning_rate, rates[epoch.epoch], rel_tol=1e-4, abs_tol=1e-12)
        text = (
            f"the learning rate of epoch {epoch.epoch} is {epoch.learning_rate:g}, and in a training that was"
        )
        expect(same, "F22", f"{text} never stopped {rates[epoch.epoch]:g}")
    found = played.results("training")
    counted = found[-1].epochs_completed if found else 0
    expect(counted == asked, "F22", f"its result counts {counted} epochs of {asked}")
    expect(found[-1].best_epoch >= 1, "F22", "its result knows no best epoch")
    jobs.checkpoint(played, "last", "F22")
    return f"epochs {due[0]} to {asked}"


def repeats(jobs: Jobs) -> str:
    """F23."""
    if not jobs.described["repeats"]:
        return "the framework does not say so (repeats = False)"
    first, second = jobs.trained(), jobs.anew()
    pairs = zip(first.updates("epoch_completed"), second.updates("epoch_completed"), strict=False)
    for one, other in pairs:
        _same("F23", f"epoch {one.epoch} of two trainings with one seed", one.metrics, other.metrics)
    return f"{jobs.trial.epochs} epochs twice"


def validation(jobs: Jobs) -> str:
    """F24."""
    found = jobs.validated().results("validation")
    expect(found, "F24", "there is no result")
    last, images = found[-1], jobs.images_of("val")
    expect(last.images == images, "F24", f"it measures {last.images} images of {images}")
    _check_metrics("F24", "the result", last.metrics)
    known = set(_CANONICAL) & set(last.metrics)
    expect(known, "F24", f"no metric has a canonical name: {', '.join(last.metrics) or 'there is none'}")
    labels, counts = len(last.confusion_matrix.labels), len(last.confusion_matrix.counts)
    expect(counts == labels * labels, "F24", f"its confusion matrix has {counts} counts for {labels} labels")
    for row in last.per_class:
        expect(row.class_name, "F24", f"class {row.class_id} has no name")
        _check_metrics("F24", row.class_name, row.metrics)
    return f"{images} images: {', '.join(sorted(known))}"


def _check_metrics(rule: str, where: str, told: Mapping[str, float]) -> None:
    for name, value in told.items():
        right = _ALIASES.get(name.lower().replace(" ", "_"))
        expect(right in (None, name), rule, f"{where} calls {right} {name!r}")
        expect(not math.isinf(value), rule, f"{where} has {name} = {value}")
        share = name in _CANONICAL and not name.endswith("loss")
        outside = share and (value < 0 or value > 1)
        expect(not outside, rule, f"{where} has {name} = {value}, beyond [0, 1]")


def _same(rule: str, what: str, one: Mapping[str, float], other: Mapping[str, float]) -> None:
    for name in sorted({*one, *other}):
        ours, theirs = one.get(name, math.inf), other.get(name, math.inf)
        alike = math.isclose(ours, theirs, rel_tol=_TOLERANCE) or (math.isnan(ours) and math.isnan(theirs))
        expect(alike, rule, f"{what}: {name} is {ours:g} and {theirs:g}")
