"""Canonical names for what ultralytics measures.

A task's own measure has the canonical names: of outlines mask overlap, of keypoints their similarity, else
the overlap of boxes. What outlines and keypoints measure of their boxes keeps ultralytics' names, such as
metrics/mAP50(B).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from runners.process.history import Epoch, History

_BOXES = ("precision", "recall", "mAP50", "mAP50-95")
_CLASSES = ("accuracy_top1", "accuracy_top5")
_OWN = ("(M)", "(P)", "(B)")  # masks, keypoints, boxes: the first that is there is the task's own
_LOSSES = {"train/": "train_loss", "val/": "val_loss"}


def default_metric(task: str) -> str:
    """What says which epoch is best, unless something else is asked for."""
    return "accuracy_top1" if task == "classify" else "mAP50-95"


def primary_metrics(task: str) -> tuple[str, ...]:
    """What can say which epoch is best."""
    return (*(_CLASSES if task == "classify" else _BOXES), *_LOSSES.values())


def canonical(measured: Mapping[str, float]) -> dict[str, float]:
    """`measured` under canonical names, with train_loss and val_loss as the sums of their parts.

    The parts, such as train/box_loss, keep their names; so does what has no canonical one. NaN and
    infinity stay what they are.
    """
    names = _names(measured)
    named = {names.get(name, name): float(value) for name, value in measured.items()}
    for prefix, total in _LOSSES.items():
        parts = [value for name, value in named.items() if name.startswith(prefix)]
        if parts:
            named[total] = sum(parts)
    return named


def _names(measured: Mapping[str, float]) -> dict[str, str]:
    own = next((ending for ending in _OWN if f"metrics/mAP50{ending}" in measured), "")
    return {f"metrics/{name}{own}": name for name in _BOXES} | {f"metrics/{name}": name for name in _CLASSES}


def read_results(history: History, results: Mapping[str, Sequence[Any]]) -> None:
    """Add the epochs that a checkpoint remembers: columns by name, as ultralytics keeps them."""
    kept = ("train/", "val/", "metrics/")
    columns = {name: values for name, values in results.items() if name.startswith(kept)}
    for row, number in enumerate(results.get("epoch", ())):
        measured = {name: values[row] for name, values in columns.items()}
        history.add(Epoch(int(number), canonical(measured)))
