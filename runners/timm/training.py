"""The training loop."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.errors import UserError
from runners.process.history import Epoch, History
from runners.process.rates import Rate
from runners.pytorch import threads
from runners.pytorch.ranks import Ranks
from runners.timm import classifier, data, measuring
from runners.timm.classifier import Classifier
from runners.timm.measuring import Tally
from runners.timm.output import Output
from visionmesh.v1 import progress_pb2, vision_pb2

DEFAULT_LEARNING_RATE = 1e-3
DEFAULT_OPTIMIZER = "adamw"


@dataclass(frozen=True)
class Material:
    """What is learnt from."""

    folder: Path
    settings: Mapping[str, Any]
    """Hyperparameters, defaults filled in."""


@dataclass(frozen=True)
class Joint:
    """What the other processes of a training are told by the first."""

    environment: JobEnvironment
    material: Material
    model: str
    class_names: Sequence[str]
    size: int
    history: History
    kept: Mapping[str, Any]
    """Of the checkpoint that is resumed; empty for none."""


class Training:
    """Trains one classifier, epoch by epoch. Lets Stopped pass within a batch of a stop.

    With several `ranks` this is what one of them does. All come to the same history; the first writes.
    """

    def __init__(
        self,
        environment: JobEnvironment,
        found: Classifier,
        material: Material,
        history: History,
        output: Output,
        emitter: Emitter,
        commands: Commands,
        ranks: Ranks,
    ) -> None:
        self._environment, self._classifier, self._settings = environment, found, material.settings
        self._device, self._history, self._output = ranks.device, history, output
        self._emitter, self._commands, self._ranks = emitter, commands, ranks
        self._network = found.network.to(ranks.device)
        self._learner = ranks.wrap(self._network)
        self._optimizer = _optimizer(environment, self._network, material.settings)
        self._scheduler = _scheduler(environment, self._optimizer, material.settings)
        decay = material.settings["ema_decay"]
        self._average = ModelEmaV3(self._network, decay, use_warmup=True) if decay else None
        preprocessing = found.preprocessing
        augmentation = preprocessing.augmentation(material.settings)
        self._train = data.split(material.folder, "train", augmentation)
        val = data.split(material.folder, "val", preprocessing.transform())
        self._val = val.part(ranks.rank, ranks.count)
        self._mixup = _mixup(material.settings, len(found.class_names))
        self._loss = _loss(material.settings, mixes=self._mixup is not None)
        self._durations: list[float] = []
        batches = -(-len(self._train) // environment.batch_size)
        self._steps = batches * len(history.epochs)
        self.best: Tally | None = None
        """What the best epoch of this attempt came to on the validation split."""

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Go on where `kept`, of a checkpoint, was written."""
        self._optimizer.load_state_dict(kept["optimizer"])
        for epoch in self._history.epochs:
            self._step_schedule(epoch)
        if self._average is not None and kept["average"]:
            self._average.module.load_state_dict(kept["average"])

    def run(self) -> bool:
        """Train to the end; whether it ended because it no longer improved."""
        first, last = len(self._history.epochs) + 1, self._environment.epochs
        images = f"{len(self._train)} images, {last} epochs"
        self._emitter.stage(vision_pb2.STAGE_TRAINING, images)
        for epoch in range(first, last + 1):
            self._one(epoch)
            ended_early = epoch < last and self._is_in_vain(epoch)
            period = self._environment.checkpoint_period
            if epoch == last or ended_early or epoch - self._output.published_last >= period:
                self._output.publish(self._history)
            if ended_early:
                return True
        return False

    def _is_in_vain(self, epoch: int) -> bool:
        patience, best = self._environment.patience, self._history.best
        return bool(patience and best is not None and epoch - best.number >= patience)

    def _one(self, epoch: int) -> None:
        began = time.monotonic()
        loss = self._fit(epoch)
        measured = self._average.module if self._average is not None else self._network
        batches = data.loader(self._val, self._environment.batch_size, self._workers())
        classes = len(self._classifier.class_names)
        tally = measuring.measure(measured, batches, classes, self._device, self._poll)
        tally.sum(self._ranks)
        done = Epoch(epoch, {"train_loss": loss, **tally.metrics()})
        is_best = self._history.add(done)
        group = self._optimizer.param_groups[0]
        rate = group["lr"] / group.get("lr_scale", 1.0)  # layers before the last may have less
        self._step_schedule(done)
        self._durations.append(time.monotonic() - began)
        if is_best:
            self.best = tally
        if self._ranks.leads:
            self._write(measured, is_best=is_best)
        mean = sum(self._durations) / len(self._durations)
        self._emitter.epoch(
            epoch,
            self._environment.epochs,
            done.metrics,
            learning_rate=float(rate),
            duration_s=self._durations[-1],
            eta_s=mean * (self._environment.epochs - epoch),
            is_best=is_best,
        )

    def _write(self, measured: nn.Module, *, is_best: bool) -> None:
        if is_best:
            self._output.write_best(self._classifier, measured.state_dict())
        self._output.write_last(self._classifier, self._network.state_dict(), self._kept())

    def _fit(self, epoch: int) -> float:
        """One pass over the training split; its mean loss, over all processes."""
        generator = data.seed(self._environment.seed, epoch, self._ranks.rank)
        self._train.chance = generator.initial_seed()
        size = self._environment.batch_size
        batches = data.shuffled(self._train, size, self._workers(), generator, self._ranks)
        self._network.train()
        total, images, rate = torch.zeros((), device=self._device), 0, Rate()
        rate.restart(time.monotonic())
        for number, (pictures, truth) in enumerate(batches, start=1):
            self._commands.poll()
            of_all = min(size, len(self._train) - (number - 1) * size)
            _, weight = self._ranks.share(range(of_all))
            loss = self._learn(pictures.to(self._device), truth.to(self._device), weight)
            if weight:
                total += loss * len(truth)
                images += len(truth)
            rate.add(of_all)
            if self._emitter.is_due("batch") and images:
                speed, mean = rate.per_second(time.monotonic()), float(total) / images
                self._emitter.batch(epoch, number, len(batches), loss=mean, images_per_second=speed)
        sums = self._ranks.sum(torch.stack([total.double(), torch.tensor(images, device=self._device)]))
        return float(sums[0] / sums[1].clamp(min=1))

    def _learn(self, pictures: torch.Tensor, truth: torch.Tensor, weight: float) -> torch.Tensor:
        """One step; its loss, which counts by `weight` in the mean over all processes."""
        if self._mixup is not None:
            if len(pictures) % 2:  # it mixes pairs
                pictures, truth = torch.cat([pictures, pictures[:1]]), torch.cat([truth, truth[:1]])
            pictures, truth = self._mixup(pictures, truth)
        half = self._settings["amp"] and self._device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            scores = self._learner(pictures)
        loss: torch.Tensor = self._loss(scores.float(), truth)
        self._optimizer.zero_grad()
        (loss * weight).backward()
        if self._settings["clip_grad"]:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._settings["clip_grad"])
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self._network, step=self._steps)
        self._steps += 1
        return loss.detach()

    def _step_schedule(self, done: Epoch) -> None:
        """Set the learning rate of the epoch after `done`."""
        self._scheduler.step(done.number, metric=self._history.score(done.metrics))

    def _kept(self) -> dict[str, Any]:
        """What the next attempt needs beside the weights: nothing but numbers, texts and tensors."""
        average = self._average.module.state_dict() if self._average is not None else {}
        return {
            "optimizer": self._optimizer.state_dict(),
            "average": dict(average),
            "epochs": [dict(epoch.metrics) for epoch in self._history.epochs],
        }

    def _workers(self) -> int:
        return 0 if self._device == "cpu" else self._settings["workers"]

    def _poll(self, *_: object) -> None:
        self._commands.poll()


def _optimizer(
    environment: JobEnvironment, network: nn.Module, settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    name = environment.optimizer or DEFAULT_OPTIMIZER
    decay = settings["layer_decay"]
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(
            network,
            opt=name.lower(),
            lr=environment.learning_rate or DEFAULT_LEARNING_RATE,
            weight_decay=settings["weight_decay"],
            momentum=settings["momentum"],
            layer_decay=decay if decay < 1 else None,
        )
    except (ValueError, TypeError, AssertionError, ImportError) as error:
        raise UserError(
            f"OPTIMIZER is {name!r}, which timm cannot make here: {error}. Use adamw, sgd, lamb or lion.",
            reason="BAD_HYPERPARAMETER",
        ) from error
    return made


def _scheduler(
    environment: JobEnvironment, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> Scheduler:
    """A schedule over epochs. "constant" is one whose only step never comes."""
    constant = settings["sched"] == "constant"
    made, _ = create_scheduler_v2(
        optimizer,
        sched="step" if constant else settings["sched"],
        num_epochs=environment.epochs,
        decay_epochs=environment.epochs + 1 if constant else settings["decay_epochs"],
        decay_rate=settings["decay_rate"],
        patience_epochs=settings["patience_epochs"],
        min_lr=settings["min_lr"],
        warmup_lr=settings["warmup_lr"],
        warmup_epochs=settings["warmup_epochs"],
    )
    return made


def _mixup(settings: Mapping[str, Any], classes: int) -> Mixup | None:
    if not (settings["mixup"] or settings["cutmix"]):
        return None
    smoothing = settings["smoothing"]
    return Mixup(settings["mixup"], settings["cutmix"], label_smoothing=smoothing, num_classes=classes)


def _loss(settings: Mapping[str, Any], *, mixes: bool) -> nn.Module:
    if mixes:
        return SoftTargetCrossEntropy()
    smoothing = settings["smoothing"]
    return LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()


class _NoCommands(Commands):
    """For a process that nobody but the first one stops."""

    def __init__(self) -> None:
        """No file descriptor, no signal handler."""

    def poll(self) -> None:
        """Nothing comes."""


def follow(ranks: Ranks) -> None:
    """What a process does that is not the first: the same training, without a word and without a file."""
    told: Joint = ranks.tell()
    environment, settings = told.environment, told.material.settings
    threads.use_share(environment.cpu_threads, ranks.count)
    found = classifier.build(told.model, told.class_names, told.size, settings)
    silent = Emitter(lambda _: None)
    output = Output(environment, silent)
    going = Training(environment, found, told.material, told.history, output, silent, _NoCommands(), ranks)
    if told.kept:
        going.resume(told.kept)
    going.run()


def past(kept: Mapping[str, Any], history: History) -> None:
    """Add the epochs that a checkpoint remembers."""
    for number, metrics in enumerate(kept["epochs"], start=1):
        history.add(Epoch(number, metrics))


def started_from(checkpoint: classifier.Checkpoint, network: nn.Module, emitter: Emitter) -> None:
    """Take over another job's weights, and say which were not."""
    fresh = classifier.start_from(network, checkpoint.weights)
    if fresh:
        text = f"{len(fresh)} of {len(network.state_dict())} tensors start at random: {', '.join(fresh[:4])}"
        emitter.log(progress_pb2.LOG_LEVEL_INFO, text)
