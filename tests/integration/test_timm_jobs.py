"""Real trainings, validations and inferences of the timm framework on generated class folders."""

import json
import math
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from dataset_copies import as_coco, as_images_json, as_yolo
from job_recorder import JobRun
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from runners.process.errors import Stopped, UserError
from runners.timm import manifest
from runners.timm.framework import Timm
from visionmesh.shapes import CLASS_NAMES, write_class_folders, write_shapes
from visionmesh.v1 import vision_pb2

pytestmark = [
    # What torch and timm warn of is theirs to mend.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(240),
]

Run = partial(JobRun, Timm())

# Learns shapes in a few epochs; the defaults are made for large datasets.
QUICK = {"scale_min": 0.8, "color_jitter": 0.1, "smoothing": 0.0, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    write_class_folders(folder, train=96, val=33, test=9)
    return folder


@pytest.fixture(scope="module")
def few_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_class_folders(folder, train=10, val=6, test=0)
    return folder


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> JobRun:
    """A training that has learned its shapes."""
    return training(
        shapes, tmp_path_factory.mktemp("trained"), epochs=6, checkpoint_period=2, job_id="train-1"
    ).go()


def training(dataset: Path, output: Path, **settings: Any) -> JobRun:
    values: dict[str, Any] = {
        "model_name": "test_efficientnet_gn",
        "epochs": 3,
        "batch_size": 8,
        "image_size": 64,
        "learning_rate": 2e-3,
        "hyperparameters": QUICK,
    }
    return Run(kind="train", dataset_path=dataset, output_path=output, **{**values, **settings})


def epochs(run: JobRun) -> list[Any]:
    return run.updates("epoch_completed")


def refused(run: JobRun) -> UserError:
    with pytest.raises(UserError) as caught:
        run.go()
    assert epochs(run) == []
    return caught.value


def test_it_learns_and_tells_every_epoch_once(trained: JobRun) -> None:
    told = epochs(trained)
    assert [(epoch.epoch, epoch.total_epochs) for epoch in told] == [(number, 6) for number in range(1, 7)]
    assert all(set(manifest.METRICS) <= set(epoch.metrics) for epoch in told)
    assert told[-1].metrics["train_loss"] < told[0].metrics["train_loss"] / 2
    (result,) = trained.results("training")
    assert result.best_metrics["accuracy_top1"] > 0.97
    assert result.best_epoch == next(e.epoch for e in reversed(told) if e.is_best)
    assert list(result.class_names) == list(CLASS_NAMES)
    assert [path.rpartition("/")[2] for path in result.checkpoints] == ["best", "last"]


def test_the_learning_rate_follows_the_cosine(trained: JobRun) -> None:
    rates = [epoch.learning_rate for epoch in epochs(trained)]
    assert rates == pytest.approx([2e-3 * (1 + math.cos(math.pi * done / 6)) / 2 for done in range(6)])


def test_checkpoints_are_published_by_period_and_at_the_end(trained: JobRun) -> None:
    last = [file.checkpoint for file in trained.files if file.artifact == "last"]
    assert [(checkpoint.epoch, checkpoint.resumable) for checkpoint in last] == [
        (2, True),
        (4, True),
        (6, True),
    ]
    left = {path.name for path in trained.environment.output_path.iterdir()}
    assert left == {"best.safetensors", "last.pt", "confusion_matrix.png", "confusion_matrix_normalized.png"}


def test_the_best_checkpoint_says_what_it_is(trained: JobRun) -> None:
    with safe_open(trained.environment.output_path / "best.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["visionmesh"])
    assert about["model"] == "test_efficientnet_gn"
    assert about["class_names"] == list(CLASS_NAMES)
    assert about["preprocessing"]["size"] == 64
    assert about["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


def test_validation_measures_what_was_learned(trained: JobRun, shapes: Path, tmp_path: Path) -> None:
    best = trained.environment.output_path / "best.safetensors"
    run = Run(kind="validate", checkpoint_path=best, dataset_path=shapes, output_path=tmp_path).go()
    (measured,) = run.results("validation")
    (learned,) = trained.results("training")
    for name, value in measured.metrics.items():
        assert value == pytest.approx(learned.best_metrics[name], abs=1e-5), name
    assert measured.images == 33
    assert [(row.class_name, row.images) for row in measured.per_class] == [
        (name, 11) for name in CLASS_NAMES
    ]
    counts = torch.tensor(measured.confusion_matrix.counts).reshape(3, 3)
    assert counts.sum(dim=0).tolist() == [11, 11, 11]  # columns are the true classes
    assert counts.trace() / 33 == pytest.approx(measured.metrics["accuracy_top1"])
    assert (tmp_path / "confusion_matrix.png").is_file()


def test_the_same_images_measure_the_same_in_every_layout(
    trained: JobRun, shapes: Path, tmp_path: Path
) -> None:
    best = trained.environment.output_path / "best.safetensors"
    copies = (
        as_yolo(shapes, tmp_path / "yolo"),
        as_coco(shapes, tmp_path / "coco", 64),
        as_images_json(shapes, tmp_path / "json", 64),
    )
    measured = []
    for folder in (shapes, *copies):
        values = {"dataset_path": folder, "checkpoint_path": best, "output_path": tmp_path / "out"}
        measured.append(Run(kind="validate", **values).go().results("validation")[0])
    for copy in measured[1:]:
        assert dict(copy.metrics) == pytest.approx(dict(measured[0].metrics), abs=1e-6)
        assert copy.confusion_matrix.counts == measured[0].confusion_matrix.counts
        assert [row.images for row in copy.per_class] == [11, 11, 11]


def test_inference_gives_the_likeliest_classes_as_timm_itself_does(
    trained: JobRun, shapes: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, path in enumerate(sorted((shapes / "test").rglob("*.jpg"))):
        shutil.copy(path, pictures / f"{number}-{path.parent.name}.jpg")
    (pictures / "broken.jpg").write_bytes(b"no image")
    best = trained.environment.output_path / "best.safetensors"
    run = Run(
        kind="infer",
        checkpoint_path=best,
        image_paths=pictures,
        output_path=tmp_path / "out",
        batch_size=4,
        top_k=2,
        save_overlays=True,
    ).go()
    found = run.results("prediction")
    right = [p for p in found if not p.HasField("error")]
    assert len(right) == 9
    for prediction in right:
        assert prediction.classifications[0].class_name in prediction.image_uri
        assert len(prediction.classifications) == 2
        assert (prediction.width, prediction.height) == (64, 64)
    assert [p.image_uri.rpartition("/")[2] for p in found if p.HasField("error")] == ["broken.jpg"]
    assert (run.results("inference")[0].total_images, run.results("inference")[0].failed_images) == (10, 1)
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 9
    assert own_answer(best, Path(right[0].image_uri)) == pytest.approx(
        [c.confidence for c in right[0].classifications], abs=1e-5
    )


@pytest.fixture(scope="module")
def pictures(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every image of the validation split, in one folder."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in (shapes / "val").rglob("*.jpg"):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    return folder


def test_vectors_of_one_class_are_closer_than_those_of_others(
    trained: JobRun, pictures: Path, tmp_path: Path
) -> None:
    best = trained.environment.output_path / "best.safetensors"
    values = {"checkpoint_path": best, "image_paths": pictures, "output_path": tmp_path}
    run = Run(kind="embed", inline_values=True, **values).go()
    found = run.results("prediction")
    vectors = np.array([prediction.embedding.values for prediction in found])
    assert vectors.shape == (33, 256)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(33), abs=1e-5)
    classes = [Path(prediction.image_uri).name.partition("-")[0] for prediction in found]
    same = np.array([[ours == theirs for theirs in classes] for ours in classes])
    alike = vectors @ vectors.T
    nearest = [classes[np.argsort(row)[-2]] for row in alike]  # the nearest of all is the image itself
    assert sum(map(str.__eq__, nearest, classes)) >= 32
    assert alike[same].mean() > alike[~same].mean() + 0.2
    assert run.results("inference")[0].embedding_dimension == 256
    for prediction in found:
        kept = np.load(tmp_path / "embeddings" / f"{prediction.index}.bin")
        assert (kept.dtype, kept.tolist()) == (np.float32, list(prediction.embedding.values))
        assert prediction.embedding.artifact.endswith(f"/artifacts/embeddings/{prediction.index}.bin")


def test_one_image_has_its_vector_in_one_file_and_raw_if_asked(
    trained: JobRun, pictures: Path, tmp_path: Path
) -> None:
    best = trained.environment.output_path / "best.safetensors"
    one = next(pictures.iterdir())
    values = {"checkpoint_path": best, "image_paths": one, "output_path": tmp_path}
    run = Run(kind="embed", normalize=False, **values).go()
    (found,) = run.results("prediction")
    assert found.embedding.artifact.endswith("/artifacts/embedding.bin")
    kept = np.load(tmp_path / "embedding.bin")
    assert (kept.shape, bool(np.linalg.norm(kept) > 1.5)) == ((256,), True)
    assert list(found.embedding.values) == [], "numbers are told only if asked for"
    assert run.results("inference")[0].embedding_dimension == 256
    with pytest.raises(UserError, match="vectors of random weights say nothing"):
        Run(kind="embed", image_paths=one, output_path=tmp_path).go()


def own_answer(checkpoint: Path, picture: Path) -> list[float]:
    """The two likeliest classes by timm alone."""
    network = timm.create_model("test_efficientnet_gn", num_classes=3, checkpoint_path=str(checkpoint)).eval()
    config = timm.data.resolve_model_data_config(network) | {"input_size": (3, 64, 64)}
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        scores = network(transform(Image.open(picture))[None]).softmax(1)
    return scores.topk(2).values[0].tolist()


def test_a_resumed_training_ends_as_one_that_never_stopped(shapes: Path, tmp_path: Path) -> None:
    values = {"hyperparameters": {**QUICK, "ema_decay": 0.9}}
    whole = training(shapes, tmp_path / "whole", **values).go()
    stopped = training(shapes, tmp_path / "first", stop_at=30, **values)
    with pytest.raises(Stopped):
        stopped.go()
    done = len(epochs(stopped))
    assert 0 < done < 3
    (partial_result,) = stopped.results("training")
    assert partial_result.epochs_completed == done
    rest = training(
        shapes,
        tmp_path / "second",
        attempt=2,
        resume=True,
        checkpoint_path=tmp_path / "first" / "last.pt",
        **values,
    ).go()
    told = [*epochs(stopped), *epochs(rest)]
    assert [epoch.epoch for epoch in told] == [1, 2, 3]
    for resumed, undisturbed in zip(told, epochs(whole), strict=True):
        assert dict(resumed.metrics) == pytest.approx(dict(undisturbed.metrics), rel=1e-4)
        assert resumed.learning_rate == pytest.approx(undisturbed.learning_rate)


def test_a_training_can_start_from_another_jobs_weights(
    trained: JobRun, shapes: Path, tmp_path: Path
) -> None:
    best = trained.environment.output_path / "best.safetensors"
    values = {"epochs": 1, "model_name": None, "learning_rate": 1e-5}
    run = training(shapes, tmp_path, checkpoint_path=best, **values).go()
    assert epochs(run)[0].metrics["accuracy_top1"] > 0.9


def test_weights_for_other_classes_keep_all_but_the_classifier(
    trained: JobRun, shapes: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two"
    shutil.copytree(shapes, two)
    for split in ("train", "val", "test"):
        shutil.rmtree(two / split / "circle")
    best = trained.environment.output_path / "best.safetensors"
    run = training(two, tmp_path / "out", epochs=1, model_name=None, checkpoint_path=best).go()
    assert any("classifier.weight" in line.message for line in run.updates("log_line"))
    assert list(run.results("training")[0].class_names) == ["square", "triangle"]


def test_patience_ends_a_training_that_no_longer_improves(few_shapes: Path, tmp_path: Path) -> None:
    run = training(few_shapes, tmp_path, epochs=9, patience=2, learning_rate=1e-12).go()
    (result,) = run.results("training")
    assert result.stopped_early
    assert result.epochs_completed == result.best_epoch + 2


@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.2, "cutmix": 0.5},
        {"sched": "plateau", "patience_epochs": 1, "warmup_epochs": 1},
        {"sched": "step", "decay_epochs": 1, "auto_augment": "rand-m5-mstd0.5", "reprob": 0.2},
        {"sched": "constant", "clip_grad": 1.0, "layer_decay": 0.8, "drop_rate": 0.1, "drop_path_rate": 0.1},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_what_timm_offers_can_be_set(few_shapes: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    values = {"epochs": 2, "batch_size": 3, "optimizer": "lamb"}
    run = training(few_shapes, tmp_path, hyperparameters=settings, **values).go()
    assert all(math.isfinite(epoch.metrics["train_loss"]) for epoch in epochs(run))
    rates = [epoch.learning_rate for epoch in epochs(run)]
    if settings.get("sched") == "constant":
        assert rates == [2e-3, 2e-3]
    if settings.get("sched") == "step":
        assert rates == pytest.approx([2e-3, 2e-4])
    if settings.get("sched") == "plateau":
        assert rates == pytest.approx([1e-5, 2e-3])


def test_what_cannot_be_is_refused_with_what_can(shapes: Path, tmp_path: Path, trained: JobRun) -> None:
    error = refused(training(shapes, tmp_path, model_name="resnet_18"))
    assert (error.reason, "Did you mean" in str(error)) == ("UNKNOWN_MODEL", True)
    assert "which timm cannot make here" in str(refused(training(shapes, tmp_path, optimizer="best")))
    assert "accuracy_top1" in str(refused(training(shapes, tmp_path, primary_metric="mAP50")))
    assert "classifies images" in str(refused(training(shapes, tmp_path, task="detect")))
    assert "train/CLASS" in str(refused(training(tmp_path / "absent", tmp_path)))
    write_shapes(tmp_path / "boxes", train=4, val=2, test=0, size=32)
    assert "labels are for detect, not for classify" in str(refused(training(tmp_path / "boxes", tmp_path)))
    best = trained.environment.output_path / "best.safetensors"
    resumed = refused(training(shapes, tmp_path, resume=True, checkpoint_path=best))
    assert 'Resume from a "last" checkpoint' in str(resumed)


def test_a_dataset_with_a_broken_image_names_it(shapes: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(shapes, broken)
    victim = next((broken / "train" / "square").iterdir())
    victim.write_bytes(victim.read_bytes()[:200])
    error = refused(training(broken, tmp_path / "out"))
    assert error.reason == "DATASET_INVALID"
    assert f"square/{victim.name}" in str(error)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


ABOUT = {
    "model": "resnet18",
    "class_names": ["a", "b"],
    "preprocessing": {"size": 64, "mean": [0], "std": [1], "interpolation": "bicubic", "crop_pct": 1},
}


@pytest.mark.parametrize(
    "told",
    [
        [],
        {"model": "resnet18"},
        ABOUT | {"model": "local-dir:/etc"},
        ABOUT | {"model": 3},
        ABOUT | {"class_names": [1, 2]},
        ABOUT | {"preprocessing": {"size": 64}},
        ABOUT | {"preprocessing": ABOUT["preprocessing"] | {"size": 10**9}},
    ],
)
@pytest.mark.parametrize("kind", ["infer", "train"])
def test_a_checkpoint_that_tells_nonsense_of_itself_is_refused(
    few_shapes: Path, tmp_path: Path, told: Any, kind: str
) -> None:
    path = tmp_path / "best"
    save_file({"a": torch.zeros(2, 2)}, path, metadata={"visionmesh": json.dumps(told)})
    picture = next((few_shapes / "val" / "circle").iterdir())
    values = {"checkpoint_path": path, "dataset_path": few_shapes, "image_paths": picture}
    with pytest.raises(UserError, match="checkpoint"):
        Run(kind=kind, output_path=tmp_path / "out", epochs=1, image_size=32, **values).go()


@pytest.mark.parametrize("form", ["pickle", "torch", "text", "other safetensors"])
def test_a_checkpoint_that_is_none_is_refused_and_never_executed(
    shapes: Path, tmp_path: Path, form: str
) -> None:
    path, canary = tmp_path / "best.pt", tmp_path / "canary"
    match form:
        case "pickle":
            path.write_bytes(pickle.dumps({"state_dict": Canary(canary)}))
        case "torch":
            torch.save({"state_dict": Canary(canary)}, path)
        case "text":
            path.write_text("no weights")
        case _:
            save_file({"a": torch.zeros(2, 2)}, path)
    run = Run(kind="validate", checkpoint_path=path, dataset_path=shapes, output_path=tmp_path / "out")
    with pytest.raises(UserError, match=r"best\.pt is not a checkpoint that can be used here"):
        run.go()
    assert not canary.exists()


def test_the_manifest_lists_what_timm_has() -> None:
    listed = manifest.manifest()
    assert set(manifest.model_names()) == set(timm.list_models()), "write timm.list_models() into models.txt"
    assert list(listed.tasks) == [vision_pb2.TASK_CLASSIFY]
    assert {item.name for item in listed.hyperparameters} == set(manifest.defaults())
    assert listed.ByteSize() < 200_000
