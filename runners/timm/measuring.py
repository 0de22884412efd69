"""How good a classifier is on one split."""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader

from runners.process.rates import Rate
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

    def metrics(self) -> dict[str, float]:
        """By canonical name; precision and recall are means over the classes that the split shows."""
        right, shown = self.counts.diagonal().double(), self.counts.sum(dim=0).double()
        said = self.counts.sum(dim=1).double()
        there = shown > 0
        images = max(self._images, 1)
        return {
            "val_loss": self._loss / images,
            "accuracy_top1": float(right.sum()) / images,
            "accuracy_top5": self._top / images,
            "precision": float((right / said.clamp(min=1))[there].mean()) if there.any() else 0.0,
            "recall": float((right / shown.clamp(min=1))[there].mean()) if there.any() else 0.0,
        }

    def result(self, class_names: tuple[str, ...]) -> result_pb2.ValidationResult:
        """All of it, per class and as a confusion matrix without pictures."""
        counts = self.counts
        return result_pb2.ValidationResult(
            metrics=self.metrics(),
            per_class=[
                result_pb2.ClassMetrics(
                    class_id=number,
                    class_name=name,
                    images=int(counts[:, number].sum()),
                    instances=int(counts[:, number].sum()),
                    metrics={
                        "precision": _share(counts[number, number], counts[number].sum()),
                        "recall": _share(counts[number, number], counts[:, number].sum()),
                    },
                )
                for number, name in enumerate(class_names)
            ],
            confusion_matrix=result_pb2.ConfusionMatrix(
                labels=class_names, counts=counts.double().flatten().tolist()
            ),
            images=self._images,
            instances=self._images,
        )


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    return float(part) / float(whole) if whole else 0.0


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
