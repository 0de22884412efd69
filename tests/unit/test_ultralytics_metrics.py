"""Canonical names, and which epoch is best."""

import math

import pytest

from runners.process.history import Epoch, History
from runners.ultralytics.metrics import canonical, default_metric, primary_metrics, read_results


def test_names_are_canonical_and_losses_are_summed() -> None:
    measured = {
        "train/box_loss": 1.0,
        "train/cls_loss": 2.0,
        "val/box_loss": 0.5,
        "val/cls_loss": 0.25,
        "metrics/precision(B)": 0.9,
        "metrics/recall(B)": 0.8,
        "metrics/mAP50(B)": 0.7,
        "metrics/mAP50-95(B)": 0.6,
        "lr/pg0": 0.01,
    }
    assert canonical(measured) == {
        "train/box_loss": 1.0,
        "train/cls_loss": 2.0,
        "val/box_loss": 0.5,
        "val/cls_loss": 0.25,
        "train_loss": 3.0,
        "val_loss": 0.75,
        "precision": 0.9,
        "recall": 0.8,
        "mAP50": 0.7,
        "mAP50-95": 0.6,
        "lr/pg0": 0.01,
    }


@pytest.mark.parametrize("own", ["M", "P"])
def test_the_tasks_own_measure_has_the_canonical_names(own: str) -> None:
    measured = {f"metrics/mAP50({kind})": value for kind, value in (("B", 0.9), (own, 0.7))}
    assert canonical(measured) == {"metrics/mAP50(B)": 0.9, "mAP50": 0.7}


def test_classes_have_canonical_names_too() -> None:
    assert canonical({"metrics/accuracy_top1": 0.9, "val/loss": 0.5}) == {
        "accuracy_top1": 0.9,
        "val/loss": 0.5,
        "val_loss": 0.5,
    }
    assert default_metric("classify") == "accuracy_top1"
    assert default_metric("pose") == "mAP50-95"
    assert "accuracy_top5" in primary_metrics("classify")
    assert "mAP50" not in primary_metrics("classify")


def test_nan_stays_nan() -> None:
    assert math.isnan(canonical({"train/box_loss": math.nan, "train/cls_loss": 1.0})["train_loss"])


@pytest.mark.parametrize(
    ("mode", "values", "best", "flags"),
    [
        ("max", [0.0, 0.0, 0.5, 0.5, 0.4], 3, [True, False, True, False, False]),
        ("min", [3.0, 2.0, 2.0, 1.0], 4, [True, True, False, True]),
        ("max", [math.nan, math.nan, 0.1], 3, [True, False, True]),
        ("max", [0.1, math.nan, 0.2], 3, [True, False, True]),
        ("min", [1.0, math.nan], 1, [True, False]),
    ],
)
def test_the_first_of_the_best_is_best(mode: str, values: list[float], best: int, flags: list[bool]) -> None:
    history = History("val_loss", mode)
    told = [history.add(Epoch(number, {"val_loss": value})) for number, value in enumerate(values, start=1)]
    assert told == flags
    assert history.best is not None
    assert history.best.number == best


def test_a_checkpoint_remembers_its_epochs() -> None:
    history = History("mAP50", "max")
    read_results(
        history,
        {
            "epoch": [1, 2],
            "time": [1.0, 2.0],
            "train/box_loss": [3.0, 2.0],
            "metrics/mAP50(B)": [0.4, 0.3],
            "lr/pg0": [0.1, 0.1],
        },
    )
    assert [epoch.number for epoch in history.epochs] == [1, 2]
    assert history.epochs[1].metrics == {"train/box_loss": 2.0, "train_loss": 2.0, "mAP50": 0.3}
    assert history.best is not None
    assert history.best.number == 1
