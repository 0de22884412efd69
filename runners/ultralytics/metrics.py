"""Canonical names for what ultralytics measures."""

from collections.abc import Mapping, Sequence
from typing import Any

from runners.pytorch.history import Epoch, History

_NAMES = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "mAP50",
    "metrics/mAP50-95(B)": "mAP50-95",
}
_LOSSES = {"train/": "train_loss", "val/": "val_loss"}

DEFAULT_METRIC = "mAP50-95"

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


def read_results(history: History, results: Mapping[str, Sequence[Any]]) -> None:
    """Add the epochs that a checkpoint remembers: columns by name, as ultralytics keeps them."""
    kept = ("train/", "val/", "metrics/")
    columns = {name: values for name, values in results.items() if name.startswith(kept)}
    for row, number in enumerate(results.get("epoch", ())):
        measured = {name: values[row] for name, values in columns.items()}
        history.add(Epoch(int(number), canonical(measured)))
