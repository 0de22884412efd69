"""Real trainings, validations and inferences of the ultralytics framework on generated shapes.

They run in this process, with a recorder in the place of the agent; test_ultralytics_scripts
starts processes.
"""

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_copies import as_coco, as_images_json
from job_recorder import JobRun
from PIL import Image
from quick_training import QUICK

from runners.process.errors import Stopped, UserError
from runners.ultralytics.framework import Ultralytics
from visionmesh.shapes import CLASS_NAMES, write_shapes
from visionmesh.v1 import progress_pb2, result_pb2

pytestmark = [
    # What torch and ultralytics warn of is theirs to mend.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(240),
]

Run = partial(JobRun, Ultralytics())


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=96, val=24, test=8)
    return folder


@pytest.fixture(scope="module")
def few_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_shapes(folder, train=24, val=8, test=0, size=64)
    return folder


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> JobRun:
    """A training that has learned its shapes."""
    return Run(
        kind="train",
        job_id="train-1",
        model_name="yolov8n",
        dataset_path=shapes,
        output_path=tmp_path_factory.mktemp("trained"),
        epochs=5,
        batch_size=8,
        image_size=96,
        optimizer="AdamW",
        learning_rate=0.003,
        hyperparameters=QUICK,
        checkpoint_period=2,
    ).go()


def short_training(dataset: Path, output: Path, **settings: Any) -> JobRun:
    values = {"epochs": 3, "batch_size": 8, "image_size": 32, "model_name": "yolov8n", **settings}
    return Run(kind="train", dataset_path=dataset, output_path=output, **values)


def test_every_epoch_is_told_once_with_its_metrics(trained: JobRun) -> None:
    epochs = trained.updates("epoch_completed")
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5]
    assert {epoch.total_epochs for epoch in epochs} == {5}
    for epoch in epochs:
        assert {"train_loss", "val_loss", "mAP50", "mAP50-95", "precision", "recall"} <= set(epoch.metrics)
        parts = [value for name, value in epoch.metrics.items() if name.startswith("train/")]
        assert epoch.metrics["train_loss"] == pytest.approx(sum(parts))
        assert epoch.learning_rate > 0
        assert epoch.epoch_duration.ToTimedelta().total_seconds() > 0
    assert epochs[-1].eta.ToTimedelta().total_seconds() == 0
    assert all(epoch.eta.ToTimedelta().total_seconds() > 0 for epoch in epochs[:-1])
    assert epochs[-1].metrics["train_loss"] < epochs[0].metrics["train_loss"] / 2


def test_it_learned(trained: JobRun) -> None:
    best = trained.results("training")[-1]
    assert best.best_metrics["mAP50"] > 0.8
    assert best.epochs_completed == 5
    assert list(best.class_names) == list(CLASS_NAMES)
    assert list(best.checkpoints) == ["jobs/train-1/artifacts/best", "jobs/train-1/artifacts/last"]
    told = {epoch.epoch: epoch for epoch in trained.updates("epoch_completed")}
    assert told[best.best_epoch].is_best
    assert dict(told[best.best_epoch].metrics) == dict(best.best_metrics)
    assert dict(told[5].metrics) == dict(best.final_metrics)


def test_batches_are_told_within_their_epoch(trained: JobRun) -> None:
    batches = [update for update in trained.updates("batch_progress") if update.epoch]
    assert {update.total_batches for update in batches} == {12}
    assert all(1 <= update.batch <= 12 for update in batches)
    assert all(update.images_per_second > 0 for update in batches)
    assert all(update.loss > 0 for update in batches)


def test_checkpoints_are_published_by_period_and_at_the_end(trained: JobRun) -> None:
    last = [file for file in trained.files if file.artifact == "last"]
    assert [file.checkpoint.epoch for file in last] == [2, 4, 5]
    assert all(file.checkpoint.resumable for file in last)
    assert all(file.metadata["resumable"] == "true" for file in last)
    best = [file for file in trained.files if file.artifact == "best"]
    assert best[-1].checkpoint.epoch == trained.results("training")[-1].best_epoch
    assert best[-1].checkpoint.is_best
    assert {file.kind for file in best + last} == {result_pb2.ARTIFACT_KIND_CHECKPOINT}


def test_what_is_announced_is_there_and_nothing_else(trained: JobRun) -> None:
    output = trained.environment.output_path
    assert {file.path for file in trained.files} == {path.name for path in output.iterdir()}
    for name in ("confusion_matrix.png", "confusion_matrix_normalized.png"):
        with Image.open(output / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 400


def test_the_dataset_is_left_as_it_was(trained: JobRun, shapes: Path) -> None:
    assert sorted(path.name for path in shapes.iterdir()) == ["data.yaml", "images", "labels"]
    assert list(shapes.rglob("*.cache")) == []


def test_log_lines_carry_no_terminal_codes(trained: JobRun) -> None:
    lines = [line.message for line in trained.updates("log_line")]
    assert lines
    assert not any("\x1b" in line for line in lines)


def test_a_stop_in_the_middle_keeps_what_there_is_and_resumes(few_shapes: Path, tmp_path: Path) -> None:
    """Three batches of training and one of validation per epoch: look 3 + 6 is in epoch 2."""
    stopped = short_training(few_shapes, tmp_path / "stopped", checkpoint_period=10, stop_at=9)
    with pytest.raises(Stopped):
        stopped.go()
    assert [epoch.epoch for epoch in stopped.updates("epoch_completed")] == [1]
    partial = stopped.results("training")[-1]
    assert partial.epochs_completed == 1
    (last,) = [file for file in stopped.files if file.artifact == "last"]
    assert (last.checkpoint.epoch, last.checkpoint.resumable) == (1, True)
    assert sorted(path.name for path in stopped.environment.output_path.iterdir()) == ["best.pt", "last.pt"]

    resumed = short_training(
        few_shapes,
        tmp_path / "resumed",
        resume=True,
        checkpoint_path=stopped.environment.output_path / "last.pt",
    ).go()
    epochs = resumed.updates("epoch_completed")
    assert [epoch.epoch for epoch in epochs] == [2, 3]
    straight = short_training(few_shapes, tmp_path / "straight").go().updates("epoch_completed")
    assert [epoch.learning_rate for epoch in epochs] == [epoch.learning_rate for epoch in straight[1:]]
    assert resumed.results("training")[-1].epochs_completed == 3
    assert [file.checkpoint.epoch for file in resumed.files if file.artifact == "last"] == [2, 3]

    again = short_training(
        few_shapes,
        tmp_path / "again",
        resume=True,
        checkpoint_path=resumed.environment.output_path / "last.pt",
    ).go()
    assert again.updates("epoch_completed") == []
    summary = again.results("training")[-1]
    assert summary.epochs_completed == 3
    assert summary.final_metrics["train_loss"] == pytest.approx(epochs[-1].metrics["train_loss"], rel=1e-3)


@pytest.mark.parametrize("left", ["garbage", "stripped", "nothing"])
def test_a_new_attempt_with_an_unusable_checkpoint_starts_anew(
    few_shapes: Path, tmp_path: Path, trained: JobRun, left: str
) -> None:
    checkpoint = tmp_path / "last.pt"
    if left == "garbage":
        checkpoint.write_bytes(b"no checkpoint at all")
    elif left == "stripped":
        checkpoint = trained.environment.output_path / "best.pt"
    anew = short_training(few_shapes, tmp_path / "out", attempt=2, resume=True, checkpoint_path=checkpoint)
    assert [epoch.epoch for epoch in anew.go().updates("epoch_completed")] == [1, 2, 3]
    warnings = [line.message for line in anew.updates("log_line") if "starts anew" in line.message]
    assert len(warnings) == 1


def test_a_stop_before_the_first_epoch_leaves_no_checkpoint(few_shapes: Path, tmp_path: Path) -> None:
    stopped = short_training(few_shapes, tmp_path / "out", stop_at=5)
    with pytest.raises(Stopped):
        stopped.go()
    assert stopped.files == []
    assert stopped.updates("epoch_completed") == []
    assert stopped.results("training")[-1].epochs_completed == 0
    warnings = [
        line.message for line in stopped.updates("log_line") if line.level == progress_pb2.LOG_LEVEL_WARNING
    ]
    assert any("before the first epoch" in line for line in warnings)


def test_the_same_seed_trains_the_same(few_shapes: Path, tmp_path: Path) -> None:
    runs = [short_training(few_shapes, tmp_path / name, epochs=1, seed=3).go() for name in "ab"]
    first, second = (run.updates("epoch_completed")[0].metrics["train_loss"] for run in runs)
    assert first == second


def test_the_primary_metric_chooses_the_best(few_shapes: Path, tmp_path: Path) -> None:
    run = short_training(
        few_shapes, tmp_path / "out", epochs=2, primary_metric="train_loss", primary_metric_mode="min"
    ).go()
    losses = [epoch.metrics["train_loss"] for epoch in run.updates("epoch_completed")]
    assert run.results("training")[-1].best_epoch == losses.index(min(losses)) + 1


def test_validation_measures_what_was_learned(trained: JobRun, shapes: Path, tmp_path: Path) -> None:
    run = Run(
        kind="validate",
        job_id="validate-1",
        dataset_path=shapes,
        checkpoint_path=trained.environment.output_path / "best.pt",
        output_path=tmp_path / "out",
        batch_size=8,
    ).go()
    (result,) = run.results("validation")
    assert result.images == 24
    assert result.metrics["mAP50"] == pytest.approx(
        trained.results("training")[-1].best_metrics["mAP50"], abs=0.1
    )
    labels = sum(len(path.read_text().splitlines()) for path in (shapes / "labels/val").glob("*.txt"))
    assert result.instances == labels
    assert [entry.class_name for entry in result.per_class] == list(CLASS_NAMES)
    assert sum(entry.instances for entry in result.per_class) == labels
    assert set(result.per_class[0].metrics) == {"precision", "recall", "mAP50", "mAP50-95"}

    matrix = result.confusion_matrix
    assert list(matrix.labels) == [*CLASS_NAMES, "background"]
    counts = np.array(matrix.counts).reshape(4, 4)
    # Every labelled object stands in exactly one cell of its column.
    assert counts[:, :3].sum(axis=0).tolist() == [entry.instances for entry in result.per_class]
    assert np.trace(counts) > 0.7 * labels
    assert matrix.artifact == "jobs/validate-1/artifacts/confusion_matrix.png"
    assert [file.artifact for file in run.files] == [
        "confusion_matrix.png",
        "confusion_matrix_normalized.png",
    ]
    assert [update.batch for update in run.updates("batch_progress")][-1] == 3


def test_the_same_images_measure_the_same_in_every_layout(
    trained: JobRun, shapes: Path, tmp_path: Path
) -> None:
    best = trained.environment.output_path / "best.pt"
    measured = []
    copies = (as_coco(shapes, tmp_path / "coco", 96), as_images_json(shapes, tmp_path / "json", 96))
    for folder in (shapes, *copies):
        values = {"dataset_path": folder, "checkpoint_path": best, "output_path": tmp_path / folder.name}
        run = Run(kind="validate", batch_size=8, **values).go()
        measured.append(run.results("validation")[0])
    for copy in measured[1:]:
        assert dict(copy.metrics) == pytest.approx(dict(measured[0].metrics), abs=1e-6)
        assert copy.instances == measured[0].instances
        assert list(copy.confusion_matrix.counts) == list(measured[0].confusion_matrix.counts)


@pytest.fixture(scope="module")
def pictures(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good images, one turned by EXIF, one cut short, one that is text."""
    folder = tmp_path_factory.mktemp("pictures")
    sources = sorted((shapes / "images/test").iterdir())
    for name, source in zip(("0.jpg", "1.jpg"), sources, strict=False):
        (folder / name).write_bytes(source.read_bytes())
    with Image.open(sources[0]) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown after a quarter turn clockwise
        wide = Image.new("RGB", (104, 96), (128, 128, 128))
        wide.paste(image, (0, 0))
        wide.rotate(90, expand=True).save(folder / "2.jpg", exif=exif, quality=95)
    (folder / "3.jpg").write_bytes(sources[1].read_bytes()[:600])
    (folder / "4.png").write_text("no image")
    return folder


def inference(trained: JobRun, pictures: Path, output: Path, **settings: Any) -> JobRun:
    return Run(
        kind="infer",
        job_id="infer-1",
        image_paths=pictures,
        checkpoint_path=trained.environment.output_path / "best.pt",
        output_path=output,
        **{"batch_size": 2, **settings},
    )


def test_each_image_has_its_prediction_and_broken_ones_their_error(
    trained: JobRun, pictures: Path, tmp_path: Path
) -> None:
    run = inference(trained, pictures, tmp_path / "out", save_overlays=True).go()
    predictions = run.results("prediction")
    assert [prediction.index for prediction in predictions] == [0, 1, 2, 3, 4]
    assert [Path(prediction.image_uri).name for prediction in predictions] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "4.png",
    ]
    assert [prediction.HasField("error") for prediction in predictions] == [False, False, False, True, True]
    for prediction in predictions[:3]:
        assert prediction.detections
        confidences = [detection.confidence for detection in prediction.detections]
        assert confidences == sorted(confidences, reverse=True)
        assert prediction.timings.inference_ms > 0
        for detection in prediction.detections:
            assert CLASS_NAMES[detection.class_id] == detection.class_name
            assert 0 <= detection.box.x_min < detection.box.x_max <= prediction.width
            assert 0 <= detection.box.y_min < detection.box.y_max <= prediction.height
        with Image.open(tmp_path / "out" / f"overlays/{prediction.index}.jpg") as overlay:
            assert overlay.size == (prediction.width, prediction.height)
        assert prediction.overlay_artifact == f"jobs/infer-1/artifacts/overlays/{prediction.index}.jpg"
    assert predictions[3].width == predictions[3].height == 0

    (totals,) = run.results("inference")
    assert (totals.total_images, totals.failed_images) == (5, 2)
    assert totals.avg_inference_time_ms == pytest.approx(totals.total_inference_time_ms / 3)
    assert sum(totals.detections_per_class.values()) == sum(len(item.detections) for item in predictions)
    progress = run.updates("images_progress")[-1]
    assert (progress.images_done, progress.images_total, progress.images_failed) == (5, 5, 2)


def test_boxes_stand_in_the_image_as_it_is_shown(trained: JobRun, pictures: Path, tmp_path: Path) -> None:
    """2.jpg is stored lying; upright it is 0.jpg with a grey margin on its right."""
    run = inference(trained, pictures, tmp_path / "out").go()
    upright, turned = run.results("prediction")[0], run.results("prediction")[2]
    assert (turned.width, turned.height) == (104, 96)
    best = upright.detections[0]
    overlaps = [iou(best.box, other.box) for other in turned.detections if other.class_id == best.class_id]
    assert max(overlaps, default=0.0) > 0.6


@pytest.fixture(scope="module")
def turned(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation split twice: as `val`, and as `test` with every EXIF orientation. PNG loses nothing."""
    folder = tmp_path_factory.mktemp("turned")
    for split in ("val", "test"):
        (folder / "images" / split).mkdir(parents=True)
        shutil.copytree(shapes / "labels/val", folder / "labels" / split)
    shutil.copy(shapes / "data.yaml", folder)
    for number, source in enumerate(sorted((shapes / "images/val").iterdir())):
        with Image.open(source) as image:
            shown = image.resize((120, 96))
        exif = Image.Exif()
        exif[0x0112] = orientation = number % 8 + 1
        name = f"{source.stem}.png"
        shown.save(folder / "images/val" / name)
        stored = shown if orientation == 1 else shown.transpose(STORED[orientation])
        stored.save(folder / "images/test" / name, exif=exif)
    return folder


# What a camera does with the image before it writes this orientation.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def test_boxes_are_the_same_however_the_camera_was_held(
    trained: JobRun, turned: Path, tmp_path: Path
) -> None:
    found = {}
    for split in ("val", "test"):
        images = turned / "images" / split
        found[split] = inference(trained, images, tmp_path / split).go().results("prediction")
    assert sum(len(prediction.detections) for prediction in found["val"]) > 10
    for upright, turned_ in zip(found["val"], found["test"], strict=True):
        assert (turned_.width, turned_.height) == (120, 96)
        assert turned_.detections == upright.detections


def test_labels_of_turned_images_are_those_of_the_image_as_it_is_shown(
    trained: JobRun, turned: Path, tmp_path: Path
) -> None:
    """ultralytics reads what it trains and measures on by OpenCV, which turns images as Pillow does."""
    measured = {}
    for split in ("val", "test"):
        run = Run(
            kind="validate",
            job_id="validate-1",
            dataset_path=turned,
            split=split,
            checkpoint_path=trained.environment.output_path / "best.pt",
            output_path=tmp_path / split,
            batch_size=8,
        ).go()
        measured[split] = dict(run.results("validation")[-1].metrics)
    assert measured["val"]["mAP50"] > 0.1
    for name, value in measured["val"].items():
        assert measured["test"][name] == pytest.approx(value, abs=1e-6), name


def iou(a: result_pb2.BoundingBox, b: result_pb2.BoundingBox) -> float:
    width = max(0.0, min(a.x_max, b.x_max) - max(a.x_min, b.x_min))
    height = max(0.0, min(a.y_max, b.y_max) - max(a.y_min, b.y_min))
    areas = [(box.x_max - box.x_min) * (box.y_max - box.y_min) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_an_image_is_predicted_alike_in_any_company(trained: JobRun, pictures: Path, tmp_path: Path) -> None:
    alone = inference(trained, pictures, tmp_path / "a", batch_size=1).go().results("prediction")
    together = inference(trained, pictures, tmp_path / "b", batch_size=5).go().results("prediction")
    for one, other in zip(alone[:3], together[:3], strict=True):
        assert len(one.detections) == len(other.detections)
        for mine, theirs in zip(one.detections, other.detections, strict=True):
            assert math.isclose(mine.confidence, theirs.confidence, abs_tol=1e-3)
            assert math.isclose(mine.box.x_min, theirs.box.x_min, abs_tol=0.1)


def test_a_new_attempt_goes_on_after_the_last_durable_image(
    trained: JobRun, pictures: Path, tmp_path: Path
) -> None:
    run = inference(trained, pictures, tmp_path / "out", first_image_index=2).go()
    assert [prediction.index for prediction in run.results("prediction")] == [2, 3, 4]
    assert run.updates("images_progress")[-1].images_done == 5


def test_a_stopped_inference_keeps_its_totals(trained: JobRun, pictures: Path, tmp_path: Path) -> None:
    run = inference(trained, pictures, tmp_path / "out", stop_at=2)
    with pytest.raises(Stopped):
        run.go()
    assert [prediction.index for prediction in run.results("prediction")] == [0, 1]
    assert run.results("inference")[-1].total_images == 2


def test_a_training_can_start_from_a_checkpoint(trained: JobRun, shapes: Path, tmp_path: Path) -> None:
    run = Run(
        kind="train",
        dataset_path=shapes,
        checkpoint_path=trained.environment.output_path / "best.pt",
        output_path=tmp_path / "out",
        epochs=1,
        batch_size=8,
        image_size=96,
        learning_rate=1e-5,
        hyperparameters={**QUICK, "warmup_epochs": 0},
    ).go()
    assert run.results("training")[-1].best_metrics["mAP50"] > 0.7


def refused(run: JobRun) -> UserError:
    with pytest.raises(UserError) as caught:
        run.go()
    assert run.updates("epoch_completed") == []
    return caught.value


def test_an_unknown_model_is_refused_with_the_nearest(few_shapes: Path, tmp_path: Path) -> None:
    error = refused(short_training(few_shapes, tmp_path / "out", model_name="yolo11q"))
    assert error.reason == "UNKNOWN_MODEL"
    assert "Did you mean 'yolo11" in str(error)


def test_a_broken_label_is_named_by_file_and_line(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", train=4, val=2, test=0, size=64)
    label = sorted((tmp_path / "data/labels/train").iterdir())[1]
    label.write_text(label.read_text().splitlines()[0] + "\n0 0.5 oops\n")
    error = refused(short_training(tmp_path / "data", tmp_path / "out"))
    assert error.reason == "DATASET_INVALID"
    assert f"{label.name}:2" in str(error)
    assert error.violations[0][0].endswith(f"{label.name}:2")


def test_a_dataset_without_labels_is_refused(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", train=4, val=2, test=0, size=64)
    for label in (tmp_path / "data/labels").rglob("*.txt"):
        label.write_text("")
    assert refused(short_training(tmp_path / "data", tmp_path / "out")).reason == "DATASET_UNLABELLED"


def test_a_split_that_is_not_there_is_refused(trained: JobRun, few_shapes: Path, tmp_path: Path) -> None:
    run = Run(
        kind="validate",
        split="test",
        dataset_path=few_shapes,
        checkpoint_path=trained.environment.output_path / "best.pt",
        output_path=tmp_path,
    )
    assert "no split 'test'" in str(refused(run))


def test_the_other_folder_layout_trains_too(tmp_path: Path) -> None:
    """train/images and valid/labels, with a folder in between and an image without objects."""
    write_shapes(tmp_path / "made", train=8, val=4, test=0, size=64)
    for split, folder in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            target = tmp_path / "data" / folder / kind / "day1"
            target.parent.mkdir(parents=True)
            (tmp_path / "made" / kind / split).rename(target)
    sorted((tmp_path / "data/train/labels/day1").iterdir())[0].unlink()
    (tmp_path / "data/classes.txt").write_text("\n".join(CLASS_NAMES))
    run = short_training(tmp_path / "data", tmp_path / "out", epochs=1).go()
    assert run.results("training")[-1].epochs_completed == 1
    assert list((tmp_path / "data").rglob("*.cache")) == []
    assert any("8 images" in stage.detail for stage in run.updates("stage_changed"))


def test_a_jpeg_that_was_cut_short_is_not_rewritten(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", train=8, val=4, test=0, size=64)
    image = sorted((tmp_path / "data/images/train").iterdir())[0]
    image.write_bytes(image.read_bytes()[:-2])
    before = image.read_bytes()
    short_training(tmp_path / "data", tmp_path / "out", epochs=1).go()
    assert image.read_bytes() == before


class Payload:
    """Would write a file when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def test_a_malicious_checkpoint_is_refused_unopened(pictures: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"model": Payload(tmp_path / "canary"), "epoch": 0}, tmp_path / "evil.pt")
    run = Run(
        kind="infer", image_paths=pictures, checkpoint_path=tmp_path / "evil.pt", output_path=tmp_path / "out"
    )
    assert "could execute code" in str(refused(run))
    assert not (tmp_path / "canary").exists()


def test_a_file_that_is_no_checkpoint_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"nothing of the sort")
    run = Run(
        kind="infer",
        image_paths=pictures,
        checkpoint_path=tmp_path / "weights.pt",
        output_path=tmp_path / "out",
    )
    assert "weights.pt is not a checkpoint" in str(refused(run))


def test_a_stripped_checkpoint_cannot_be_resumed(trained: JobRun, shapes: Path, tmp_path: Path) -> None:
    best = trained.environment.output_path / "best.pt"
    run = short_training(shapes, tmp_path / "out", resume=True, checkpoint_path=best)
    assert "holds no optimizer and epoch" in str(refused(run))


def test_other_tasks_and_metrics_are_refused(few_shapes: Path, tmp_path: Path) -> None:
    other = refused(short_training(few_shapes, tmp_path, task="segment"))
    assert other.reason == "UNSUPPORTED"
    assert "yolov8n does detect, not segment" in str(other)
    unlabelled = refused(short_training(few_shapes, tmp_path, model_name="yolov8n-seg"))
    assert unlabelled.reason == "DATASET_UNLABELLED"
    promptable = refused(short_training(few_shapes, tmp_path, model_name="sam2_t"))
    assert "sam2_t is not trained here" in str(promptable)
    metric = refused(short_training(few_shapes, tmp_path, primary_metric="accuracy_top1"))
    assert "mAP50-95" in str(metric)


def test_it_computes_with_the_threads_it_is_given(few_shapes: Path, tmp_path: Path) -> None:
    import torch

    seen = []
    for threads in (1, 2):
        short_training(few_shapes, tmp_path / str(threads), epochs=1, cpu_threads=threads).go()
        seen.append(torch.get_num_threads())
    assert seen == [1, 2]
