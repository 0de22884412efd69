"""What counts of predicted against true classes say of a classifier."""

from collections.abc import Sequence

import numpy as np

from visionmesh.v1 import result_pb2


def precision_and_recall(counts: np.ndarray) -> dict[str, float]:
    """Means over the classes that are shown; `counts` is classes x classes, rows predicted, columns true."""
    right, shown, said = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    there = shown > 0
    return {
        "precision": float((right / np.maximum(said, 1))[there].mean()) if there.any() else 0.0,
        "recall": float((right / np.maximum(shown, 1))[there].mean()) if there.any() else 0.0,
    }


def result(
    counts: np.ndarray, metrics: dict[str, float], class_names: Sequence[str]
) -> result_pb2.ValidationResult:
    """All of it, per class and as a confusion matrix without pictures; `counts` as above."""
    images = int(counts.sum())
    return result_pb2.ValidationResult(
        metrics=metrics,
        per_class=[_of_class(counts, number, name) for number, name in enumerate(class_names)],
        confusion_matrix=result_pb2.ConfusionMatrix(
            labels=class_names, counts=counts.astype(float).ravel().tolist()
        ),
        images=images,
        instances=images,
    )


def _of_class(counts: np.ndarray, number: int, name: str) -> result_pb2.ClassMetrics:
    right, shown, said = counts[number, number], counts[:, number].sum(), counts[number].sum()
    return result_pb2.ClassMetrics(
        class_id=number,
        class_name=name,
        images=int(shown),
        instances=int(shown),
        metrics={
            "precision": float(right / said) if said else 0.0,
            "recall": float(right / shown) if shown else 0.0,
        },
    )
