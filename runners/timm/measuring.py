"""How good a classifier is on one split."""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader

from runners.process.rates import Rate
from runners.pytorch import classification
from runners.pytorch.ranks import Ranks
from visionmesh.v1 import result_pb2

_TOP = 5

Tell = Callable[[int, int, float], None]
"""Told after each batch: its number from 1, how many there are, images per second. May raise Stopped."""


class Tally:
    """Counts predictions against the truth."""

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)
        """Rows are predicted, columns true."""
        self._top, self._loss, self._images = 0, 0.0, 0

    def add(self, scores: torch.Tensor, truth: torch.Tensor) -> None:
        """Count one batch: scores (batch x classes) and class ids (batch), both on the CPU."""
        self._loss += float(nn.functional.cross_entropy(scores, truth, reduction="sum"))
        best = scores.topk(min(_TOP, scores.shape[1])).indices
        self._top += int((best == truth[:, None]).any(dim=1).sum())
        self._images += len(truth)
        classes = len(self.counts)
        pairs = torch.bincount(best[:, 0] * classes + truth, minlength=classes * classes)
        self.counts += pairs.reshape(classes, classes)

    def sum(self, ranks: Ranks) -> None:
        """Add what the other processes have counted."""
        mine = torch.tensor([self._top, self._loss, self._images], dtype=torch.float64)
        top, self._loss, images = ranks.sum(mine).tolist()
        self._top, self._images = round(top), round(images)
        self.counts = ranks.sum(self.counts)

    def metrics(self) -> dict[str, float]:
        """By canonical name; precision and recall are means over the classes that the split shows."""
        images = max(self._images, 1)
        return {
            "val_loss": self._loss / images,
            "accuracy_top1": float(self.counts.diagonal().sum()) / images,
            "accuracy_top5": self._top / images,
            **classification.precision_and_recall(self.counts.numpy()),
        }

    def result(self, class_names: tuple[str, ...]) -> result_pb2.ValidationResult:
        """All of it, per class and as a confusion matrix without pictures."""
        return classification.result(self.counts.numpy(), self.metrics(), class_names)


def measure(
    network: nn.Module,
    batches: "DataLoader[tuple[torch.Tensor, int]]",
    classes: int,
    device: str,
    tell: Tell,
) -> Tally:
    """Run a network, which is left in evaluation mode, over a split."""
    network.eval()
    tally, rate = Tally(classes), Rate()
    rate.restart(time.monotonic())
    for number, (pictures, truth) in enumerate(batches, start=1):
        with torch.inference_mode():
            tally.add(network(pictures.to(device)).float().cpu(), truth)
        rate.add(len(truth))
        tell(number, len(batches), rate.per_second(time.monotonic()))
    return tally
