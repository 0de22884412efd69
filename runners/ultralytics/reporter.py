"""Tells how a training goes: ultralytics' callbacks in, typed events out."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from runners.process.commands import Commands
from runners.process.emitter import Emitter
from runners.process.environment import JobEnvironment
from runners.process.history import Epoch, History
from runners.process.rates import Rate
from runners.pytorch import threads
from runners.ultralytics import checkpoints
from runners.ultralytics.trainer import Callbacks, Training
from visionmesh.v1 import result_pb2, vision_pb2


class Reporter:
    """Follows one training. Its callbacks raise Stopped within a batch of a stop."""

    def __init__(
        self, environment: JobEnvironment, history: History, emitter: Emitter, commands: Commands
    ) -> None:
        self.history = history
        """All epochs so far, those of earlier attempts included."""

        self._environment = environment
        self._emitter = emitter
        self._commands = commands
        self._batch = 0
        self._rate = Rate()
        self._epoch_durations: list[float] = []
        self._saved: Path | None = None
        self._published_last = self._published_best = history.epochs[-1].number if history.epochs else 0

    def callbacks(self) -> Callbacks:
        """What to hand to the trainer; its validator gets the same."""
        made: Callbacks = defaultdict(list)
        made["on_pretrain_routine_start"] = [self._setting_up]
        made["on_pretrain_routine_end"] = [self._poll]
        made["on_train_start"] = [self._training]
        made["on_train_epoch_start"] = [self._epoch_started]
        made["on_train_batch_end"] = [self._batch_done]
        made["on_val_batch_end"] = [self._poll]
        made["on_model_save"] = [self._saved_model]
        made["on_fit_epoch_end"] = [self._epoch_done]
        return made

    def publish(self) -> None:
        """Announce the checkpoints that are newer than those announced before; best first.

        In this order the best in the store is never older than the last: who resumes from the last
        finds every improvement up to it.
        """
        output, newest = self._environment.output_path, self.history.epochs[-1].number if self._saved else 0
        best = self.history.best
        if best is not None and best.number > self._published_best and (output / "best.pt").exists():
            self._emitter.checkpoint("best", "best.pt", best.number, resumable=False, is_best=True)
            self._published_best = best.number
        if self._saved is not None and newest > self._published_last:
            checkpoints.write_copy(self._saved, output / "last.pt")
            is_best = best is not None and best.number == newest
            self._emitter.checkpoint("last", "last.pt", newest, resumable=True, is_best=is_best)
            self._published_last = newest

    def result(self, class_names: tuple[str, ...], *, stopped_early: bool) -> result_pb2.TrainingResult:
        """What the training came to, so far."""
        return self.history.result(self._environment.job_id, class_names, stopped_early=stopped_early)

    def _poll(self, _: Any) -> None:
        self._commands.poll()

    def _setting_up(self, trainer: Training) -> None:
        self._commands.poll()
        threads.use(self._environment.cpu_threads)
        self._emitter.stage(vision_pb2.STAGE_LOADING_MODEL, Path(str(trainer.args.model)).stem)

    def _training(self, trainer: Training) -> None:
        images = len(trainer.train_loader.dataset)
        self._emitter.stage(vision_pb2.STAGE_TRAINING, f"{images} images, {trainer.epochs} epochs")

    def _epoch_started(self, trainer: Training) -> None:
        self._batch = 0
        self._rate.restart(time.monotonic())  # time spent on validation says nothing about batches

    def _batch_done(self, trainer: Training) -> None:
        self._commands.poll()
        self._batch += 1
        self._rate.add(trainer.batch_size)
        if self._emitter.is_due("batch"):
            self._emitter.batch(
                trainer.epoch + 1,
                self._batch,
                len(trainer.train_loader),
                loss=trainer.mean_loss(),
                images_per_second=self._rate.per_second(time.monotonic()),
            )

    def _saved_model(self, trainer: Training) -> None:
        self._saved = trainer.last

    def _epoch_done(self, trainer: Training) -> None:
        number = trainer.epoch + 1
        if self.history.epochs and number <= self.history.epochs[-1].number:
            return  # ultralytics says so once more after the last validation
        epoch = Epoch(number, trainer.epoch_metrics())
        is_best = self.history.add(epoch)
        if is_best:
            checkpoints.write_best(trainer.last, self._environment.output_path / "best.pt")
        self._epoch_durations.append(trainer.epoch_time)
        mean = sum(self._epoch_durations) / len(self._epoch_durations)
        self._emitter.epoch(
            number,
            trainer.epochs,
            epoch.metrics,
            learning_rate=float(trainer.lr["lr/pg0"]),
            duration_s=trainer.epoch_time,
            eta_s=0.0 if trainer.stop else mean * (trainer.epochs - number),
            is_best=is_best,
        )
        if trainer.stop or number - self._published_last >= self._environment.checkpoint_period:
            self.publish()
