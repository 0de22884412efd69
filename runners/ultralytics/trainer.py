"""ultralytics' detection trainer, with the best epoch chosen by the job's primary metric."""

import csv
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer

from runners.ultralytics.metrics import canonical

Callbacks = dict[str, list[Callable[[Any], None]]]
"""Functions by ultralytics' event names; each gets the trainer or validator."""


class Training(DetectionTrainer):  # type: ignore[misc] # ultralytics has no types
    """One training.

    Not called a trainer: to classes of such names ultralytics attaches its own reporting.
    """

    def __init__(
        self,
        overrides: dict[str, Any],
        callbacks: Callbacks,
        *,
        score: Callable[[Mapping[str, float]], float],
        bn_momentum: float | None,
    ) -> None:
        """`score` turns canonical metrics into a number of which more is better."""
        self._score = score
        self._bn_momentum = bn_momentum
        self.best_fitness: float | None = None
        super().__init__(overrides=overrides, _callbacks=callbacks)

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Called at the end of set-up, resuming or not: the place for what a checkpoint does not keep."""
        super().resume_training(ckpt)
        if self._bn_momentum is not None:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = self._bn_momentum

    def validate(self) -> tuple[dict[str, float], float]:
        """Measure on the validation split; the second value decides on best checkpoint and early stop."""
        measured: dict[str, float] = self.validator(self)
        measured.pop("fitness", None)
        fitness = self._score(self.epoch_metrics(measured))
        if self.best_fitness is None or math.isnan(self.best_fitness) or fitness > self.best_fitness:
            self.best_fitness = fitness
        return measured, fitness

    def final_eval(self) -> None:
        """Nothing: the best checkpoint is measured with a confusion matrix afterwards."""

    def read_results_csv(self) -> dict[str, list[float]]:
        """Columns of the results so far, for the checkpoint. ultralytics would start polars for it."""
        if not self.csv.exists():
            return {}
        with self.csv.open(newline="") as file:
            header, *rows = csv.reader(file)
        return {name.strip(): [float(row[column]) for row in rows] for column, name in enumerate(header)}

    def epoch_metrics(self, measured: Mapping[str, float] | None = None) -> dict[str, float]:
        """Canonical metrics of the epoch: its mean training losses, and what validation measured."""
        losses = self.label_loss_items(self.tloss) if self.tloss else {}
        return canonical({**losses, **(self.metrics if measured is None else measured)})

    def mean_loss(self) -> float:
        """Mean training loss of the epoch so far, all parts together. Waits for the GPU."""
        return sum(float(part) for part in self.tloss.values()) if self.tloss else 0.0

    def close(self) -> None:
        """End the processes that load data."""
        for name in ("train_loader", "test_loader"):
            loader = getattr(self, name, None)
            if loader is not None and hasattr(loader, "close"):
                loader.close()
