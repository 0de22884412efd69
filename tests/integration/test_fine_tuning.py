"""A training that starts from another's checkpoint learns less data and other classes sooner than one from
scratch; `patience` and `checkpoint_period` keep their words."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from job_recorder import JobRun
from quick_training import QUICK

from runners.framework import Framework
from runners.timm.framework import Timm
from runners.ultralytics.framework import Ultralytics
from visionmesh.shapes import write_class_folders, write_shapes

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]

# Learn shapes in a few epochs; the defaults are made for large datasets.
DETECTOR: dict[str, Any] = {
    "batch_size": 8,
    "image_size": 96,
    "optimizer": "AdamW",
    "learning_rate": 0.003,
    "hyperparameters": QUICK,
}  # fmt: skip
CLASSIFIER: dict[str, Any] = {
    "batch_size": 8,
    "image_size": 64,
    "learning_rate": 2e-3,
    "hyperparameters": {"scale_min": 0.8, "color_jitter": 0.1, "smoothing": 0.0, "weight_decay": 0.0},
}


def training(framework: Framework, dataset: Path, output: Path, **settings: Any) -> JobRun:
    recipe = CLASSIFIER if framework.name == "timm" else DETECTOR
    values = {"kind": "train", "dataset_path": dataset, "output_path": output, **recipe, **settings}
    return JobRun(framework, **values).go()


def metrics(run: JobRun, name: str) -> list[float]:
    return [epoch.metrics[name] for epoch in run.updates("epoch_completed")]


def compare(run: JobRun, scratch: JobRun, metric: str) -> None:
    """The one that was fine-tuned begins with less loss, and ends where the other has not come yet."""
    for name in ("train_loss", metric):
        tuned = " ".join(f"{value:.2f}" for value in metrics(run, name))
        print(f"{name}: fine-tuned {tuned}, from scratch", *(f"{v:.2f}" for v in metrics(scratch, name)))
    assert metrics(run, "train_loss")[0] < 0.8 * metrics(scratch, "train_loss")[0]
    assert max(metrics(run, metric)) > max(metrics(scratch, metric)) + 0.1


def test_a_detector_fine_tunes_on_fewer_images_of_other_classes(tmp_path: Path) -> None:
    write_shapes(tmp_path / "many", train=96, val=16, test=0)
    write_shapes(tmp_path / "few", train=24, val=16, test=0, seed=1)
    few = tmp_path / "few"
    for label in (few / "labels").rglob("*.txt"):  # no circles; squares and triangles have other numbers
        lines = [line for line in label.read_text().splitlines() if not line.startswith("0 ")]
        label.write_text("".join(f"{2 - int(line[0])}{line[1:]}\n" for line in lines))
    (few / "data.yaml").write_text("names: {0: tent, 1: box}\n")
    first = training(Ultralytics(), tmp_path / "many", tmp_path / "a", model_name="yolov8n", epochs=4)
    best = first.environment.output_path / "best.pt"
    tuned = training(Ultralytics(), few, tmp_path / "b", checkpoint_path=best, epochs=2)
    scratch = training(Ultralytics(), few, tmp_path / "c", model_name="yolov8n", epochs=2)
    assert list(tuned.results("training")[-1].class_names) == ["tent", "box"]
    compare(tuned, scratch, "mAP50")


def test_a_classifier_fine_tunes_on_fewer_images_of_other_classes(tmp_path: Path) -> None:
    model = "test_efficientnet_gn"
    write_class_folders(tmp_path / "many", train=96, val=33, test=0)
    write_class_folders(tmp_path / "few", train=24, val=33, test=0, seed=1)
    for split in ("train", "val"):
        folder = tmp_path / "few" / split
        shutil.rmtree(folder / "circle")
        (folder / "square").rename(folder / "box")
    first = training(Timm(), tmp_path / "many", tmp_path / "a", model_name=model, epochs=5)
    best = first.environment.output_path / "best.safetensors"
    tuned = training(Timm(), tmp_path / "few", tmp_path / "b", checkpoint_path=best, epochs=2)
    scratch = training(Timm(), tmp_path / "few", tmp_path / "c", model_name=model, epochs=2)
    assert list(tuned.results("training")[-1].class_names) == ["box", "triangle"]
    compare(tuned, scratch, "accuracy_top1")


@pytest.mark.parametrize("framework", [Ultralytics(), Timm()], ids=["ultralytics", "timm"])
def test_patience_and_checkpoint_period_keep_their_words(framework: Framework, tmp_path: Path) -> None:
    """The loss only falls, and more of it is said to be better: no epoch is better than the first."""
    write = write_class_folders if framework.name == "timm" else write_shapes
    write(tmp_path / "data", train=24, val=8, test=0, size=64)
    model = "test_efficientnet_gn" if framework.name == "timm" else "yolov8n"
    settings = {"model_name": model, "epochs": 12, "image_size": 64, "primary_metric": "train_loss"}
    run = training(framework, tmp_path / "data", tmp_path / "a", patience=3, checkpoint_period=2, **settings)
    (result,) = run.results("training")[-1:]
    print("train_loss", *(f"{value:.2f}" for value in metrics(run, "train_loss")))
    told = [epoch.epoch for epoch in run.updates("epoch_completed")]
    best = metrics(run, "train_loss").index(max(metrics(run, "train_loss"))) + 1
    assert result.stopped_early
    assert (result.best_epoch, result.epochs_completed) == (best, best + 3)
    assert told == list(range(1, best + 4))
    # Every second epoch, and where it ended.
    kept = [file.checkpoint.epoch for file in run.files if file.artifact == "last"]
    assert kept == sorted({*range(2, best + 4, 2), best + 3})
    assert {file.checkpoint.epoch for file in run.files if file.artifact == "best"} == {best}
