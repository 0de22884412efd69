"""The epochs of a training so far, and which of them was best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from visionmesh.names import artifact_name
from visionmesh.v1 import result_pb2


@dataclass(frozen=True)
class Epoch:
    """One completed epoch."""

    number: int
    """From 1."""

    metrics: Mapping[str, float]
    """By canonical name."""


@dataclass
class History:
    """The epochs of a job so far, those of earlier attempts included."""

    primary_metric: str
    """Which metric says what is best."""

    mode: str
    """max or min."""

    epochs: list[Epoch] = field(default_factory=list)
    """In order."""

    best: Epoch | None = None
    """The first of those with the best primary metric."""

    def score(self, metrics: Mapping[str, float]) -> float:
        """The primary metric, turned so that more is better; NaN if it is not there."""
        value = metrics.get(self.primary_metric, math.nan)
        return -value if self.mode == "min" else value

    def add(self, epoch: Epoch) -> bool:
        """Append an epoch; whether it is the best so far. One whose metric is NaN never beats another."""
        self.epochs.append(epoch)
        if self.best is not None and not self._better(epoch, self.best):
            return False
        self.best = epoch
        return True

    def result(
        self, job_id: str, class_names: Sequence[str], *, stopped_early: bool
    ) -> result_pb2.TrainingResult:
        """What the training came to, so far."""
        last = self.epochs[-1] if self.epochs else None
        kept = [name for name, epoch in (("best", self.best), ("last", last)) if epoch is not None]
        return result_pb2.TrainingResult(
            best_epoch=self.best.number if self.best else 0,
            best_metrics=self.best.metrics if self.best else {},
            final_metrics=last.metrics if last else {},
            checkpoints=[artifact_name(job_id, name) for name in kept],
            epochs_completed=last.number if last else 0,
            stopped_early=stopped_early,
            class_names=class_names,
        )

    def _better(self, epoch: Epoch, than: Epoch) -> bool:
        score, before = self.score(epoch.metrics), self.score(than.metrics)
        return score > before or (math.isnan(before) and not math.isnan(score))
