"""Canonical names for what ultralytics measures, and which epoch was best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_NAMES = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "mAP50",
    "metrics/mAP50-95(B)": "mAP50-95",
}
_LOSSES = {"train/": "train_loss", "val/": "val_loss"}

PRIMARY_METRICS = (*_NAMES.values(), *_LOSSES.values())
"""What can say which epoch is best."""


def canonical(measured: Mapping[str, float]) -> dict[str, float]:
    """`measured` under canonical names, with train_loss and val_loss as the sums of their parts.

    The parts, such as train/box_loss, keep their names; so does what has no canonical one. NaN and
    infinity stay what they are.
    """
    named = {_NAMES.get(name, name): float(value) for name, value in measured.items()}
    for prefix, total in _LOSSES.items():
        parts = [value for name, value in named.items() if name.startswith(prefix)]
        if parts:
            named[total] = sum(parts)
    return named


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

    def read_results(self, results: Mapping[str, Sequence[Any]]) -> None:
        """Add the epochs that a checkpoint remembers: columns by name, as ultralytics keeps them."""
        kept = ("train/", "val/", "metrics/")
        columns = {name: values for name, values in results.items() if name.startswith(kept)}
        for row, number in enumerate(results.get("epoch", ())):
            self.add(Epoch(int(number), canonical({name: values[row] for name, values in columns.items()})))

    def _better(self, epoch: Epoch, than: Epoch) -> bool:
        score, before = self.score(epoch.metrics), self.score(than.metrics)
        return score > before or (math.isnan(before) and not math.isnan(score))
