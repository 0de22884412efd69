"""Every task: a real training learns it, its checkpoint measures the same, and finds the right things.

What is found is what ultralytics' own command line finds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_recorder import JobRun
from PIL import Image, ImageDraw
from quick_training import QUICK

from runners.faces.framework import Faces
from runners.framework import Framework
from runners.process.errors import UserError
from runners.timm.framework import Timm
from runners.ultralytics.framework import Ultralytics
from runners.vision import masks
from runners.vision.overlays import corners
from visionmesh.shapes import CLASS_NAMES, KEYPOINT_NAMES, write_class_folders, write_shapes
from visionmesh.v1 import job_pb2, result_pb2

pytestmark = [
    # What torch and ultralytics warn of is theirs to mend.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),
]

BOXES = frozenset({"mAP50", "mAP50-95", "precision", "recall"})
CLASSES = frozenset({"accuracy_top1", "accuracy_top5", "precision", "recall"})


@dataclass(frozen=True)
class Case:
    """A task of a framework, and what its training must come to."""

    framework: Framework
    task: str
    model: str
    metric: str
    least: float
    epochs: int
    size: int = 96
    learning_rate: float = 0.003
    hyperparameters: dict[str, Any] = field(default_factory=lambda: QUICK)
    best: str = "best.pt"

    @property
    def side(self) -> int:
        """Of the images to look at, which are scaled down for the network."""
        return self.size * 5 // 4

    def __str__(self) -> str:
        return f"{self.framework.name}-{self.task}"


SHAPES = Ultralytics()
CASES = (
    Case(SHAPES, "detect", "yolov8n", "mAP50", 0.85, 5),
    Case(SHAPES, "segment", "yolov8n-seg", "mAP50", 0.85, 5),
    Case(SHAPES, "pose", "yolov8n-pose", "mAP50", 0.85, 7),
    Case(SHAPES, "obb", "yolov8n-obb", "mAP50", 0.85, 6, size=128),
    Case(SHAPES, "classify", "yolov8n-cls", "accuracy_top1", 0.9, 5, size=64),
    Case(
        Timm(),
        "classify",
        "test_efficientnet_gn",
        "accuracy_top1",
        0.9,
        5,
        size=64,
        learning_rate=2e-3,
        hyperparameters={"scale_min": 0.7, "color_jitter": 0.1},
        best="best.safetensors",
    ),
)


@dataclass(frozen=True)
class Trained:
    """A case that was trained."""

    case: Case
    data: Path
    run: JobRun

    @property
    def images(self) -> Path:
        """The test split as a folder of images, named by their classes if these are what is looked for."""
        folder = self.data.parent / "test/images/test"
        if not folder.exists():
            folder.mkdir(parents=True)
            for image in sorted((self.data.parent / "test/test").rglob("*.jpg")):
                (folder / f"{image.parent.name}-{image.name}").symlink_to(image)
        return folder

    @property
    def checkpoint(self) -> Path:
        return self.run.environment.output_path / self.case.best

    def job(self, kind: str, output: Path, **settings: Any) -> JobRun:
        values = {"checkpoint_path": self.checkpoint, "output_path": output, "batch_size": 8, **settings}
        return JobRun(self.case.framework, kind=kind, job_id="after", **values).go()


@pytest.fixture(scope="module", params=CASES, ids=str)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One small training."""
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.task)
    if case.task == "classify":
        write_class_folders(folder / "data", train=96, val=24, test=0, size=case.size)
        write_class_folders(folder / "test", train=0, val=0, test=12, size=case.side)
    else:
        write_shapes(folder / "data", train=96, val=24, test=0, size=case.size, task=case.task)
        write_shapes(folder / "test", train=0, val=0, test=12, size=case.side, task=case.task)
    run = JobRun(
        case.framework,
        kind="train",
        job_id="before",
        model_name=case.model,
        dataset_path=folder / "data",
        output_path=folder / "out",
        epochs=case.epochs,
        batch_size=8,
        image_size=case.size,
        optimizer="AdamW" if case.framework is SHAPES else None,
        learning_rate=case.learning_rate,
        hyperparameters=case.hyperparameters,
    )
    return Trained(case, folder / "data", run.go())


def test_it_learns_and_measures_the_same_afterwards(trained: Trained, tmp_path: Path) -> None:
    case = trained.case
    learned = trained.run.results("training")[-1].best_metrics
    print(f"{case}: {case.metric} {learned[case.metric]:.3f} after {case.epochs} epochs")
    assert learned[case.metric] > case.least
    # In a training duplicates are suppressed at ultralytics' own thresholds.
    settings = {"dataset_path": trained.data, "iou_threshold": 0.7, "max_detections": 300}
    (measured,) = trained.job("validate", tmp_path, **settings).results("validation")
    for name in set(measured.metrics) & set(learned):
        assert measured.metrics[name] == pytest.approx(learned[name], abs=0.03), name
    canonical = CLASSES if case.task == "classify" else BOXES
    assert canonical <= set(measured.metrics)
    assert measured.images == 24
    labels = list(CLASS_NAMES) if case.task == "classify" else [*CLASS_NAMES, "background"]
    assert list(measured.confusion_matrix.labels) == labels
    counts = np.array(measured.confusion_matrix.counts).reshape(len(labels), len(labels))
    assert np.trace(counts) > 0.7 * measured.instances
    per_class = {entry.class_name: entry for entry in measured.per_class}
    assert set(per_class) == set(CLASS_NAMES)
    assert sum(entry.instances for entry in per_class.values()) == measured.instances
    names = {"precision", "recall"} if case.task == "classify" else BOXES
    assert all(names <= set(entry.metrics) for entry in per_class.values())
    # The canonical names are the task's own; what outlines and keypoints measure of boxes keeps its name.
    for metrics in (measured.metrics, measured.per_class[0].metrics):
        assert ("metrics/mAP50(B)" in metrics) == (case.task in {"segment", "pose"})
        assert not {"metrics/mAP50(M)", "metrics/mAP50(P)"} & set(metrics)


@pytest.fixture(scope="module")
def found(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> list[result_pb2.ImagePrediction]:
    """Predictions on the test split."""
    output = tmp_path_factory.mktemp("found")
    run = trained.job("infer", output, image_paths=trained.images, save_overlays=True)
    predictions = run.results("prediction")
    assert len(predictions) == 12
    for prediction in predictions:
        with Image.open(output / f"overlays/{prediction.index}.jpg") as overlay:
            assert overlay.size == (trained.case.side, trained.case.side)
    return predictions


def test_what_it_finds_can_be_faces(trained: Trained, tmp_path: Path) -> None:
    """The faces framework takes a detector or pose model of the mesh; here its squares pass for faces."""
    if trained.case.task not in {"detect", "pose"}:
        return
    values = {"kind": "detect_faces", "image_paths": trained.images, "output_path": tmp_path / "out"}
    with pytest.raises(UserError, match="of circle, square, triangle"):
        JobRun(Faces(), checkpoint_path=trained.checkpoint, **values).go()
    content = torch.load(trained.checkpoint, weights_only=False)
    content["model"].names = {0: "circle", 1: "face", 2: "triangle"}
    torch.save(content, tmp_path / "faces.pt")
    faces = JobRun(Faces(), checkpoint_path=tmp_path / "faces.pt", **values).go().results("prediction")
    inferred = trained.job("infer", tmp_path, image_paths=trained.images, iou_threshold=0.3)
    for ours, theirs in zip(faces, inferred.results("prediction"), strict=True):
        squares = [found for found in theirs.detections if found.class_name == "square"]
        assert len(ours.faces) == len(squares)
        for face, square in zip(ours.faces, squares, strict=True):
            assert corners_of(face.box) == pytest.approx(corners_of(square.box), abs=0.01)
            assert face.confidence == pytest.approx(square.confidence, abs=1e-4)
            assert not face.landmarks, "the keypoints of shapes have other names"
    assert sum(len(prediction.faces) for prediction in faces) >= 4


def corners_of(box: result_pb2.BoundingBox) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


def test_vectors_tell_the_classes_apart(trained: Trained, tmp_path: Path) -> None:
    """Those of images with one thing in each; a vector of several is of no class."""
    if trained.case.task != "classify":
        return
    run = trained.job("embed", tmp_path, image_paths=trained.images, inline_values=True)
    found = run.results("prediction")
    vectors = np.array([prediction.embedding.values for prediction in found])
    assert vectors.shape == (12, 256)
    assert run.results("inference")[0].embedding_dimension == 256
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    kept = [np.load(tmp_path / f"embeddings/{prediction.index}.bin") for prediction in found]
    assert np.array(kept) == pytest.approx(vectors, abs=1e-7)
    classes = [Path(prediction.image_uri).name.partition("-")[0] for prediction in found]
    alike = vectors @ vectors.T
    nearest = [classes[np.argsort(row)[-2]] for row in alike]  # the nearest of all is the image itself
    assert sum(map(str.__eq__, nearest, classes)) >= 10
    same = np.array([[ours == theirs for theirs in classes] for ours in classes])
    print(
        f"{trained.case}: cosine {alike[same].mean():.2f} in a class, {alike[~same].mean():.2f} between them"
    )
    assert alike[same].mean() > alike[~same].mean()


def test_vectors_are_those_of_ultralytics_itself(trained: Trained, tmp_path: Path) -> None:
    case = trained.case
    if case.framework is not SHAPES:
        return
    from ultralytics import YOLO

    run = trained.job("embed", tmp_path, image_paths=trained.images, normalize=False, inline_values=True)
    for prediction in run.results("prediction")[:2]:
        with Image.open(prediction.image_uri) as opened:
            pixels = np.ascontiguousarray(np.asarray(opened.convert("RGB"))[..., ::-1])
        (theirs,) = YOLO(trained.checkpoint).embed(pixels, imgsz=case.size, device="cpu", verbose=False)
        assert np.array(prediction.embedding.values) == pytest.approx(theirs.numpy(), rel=1e-4, abs=1e-4)


def test_it_finds_the_right_things(trained: Trained, found: list[result_pb2.ImagePrediction]) -> None:
    if trained.case.task == "classify":
        right = [Path(one.image_uri).name.startswith(one.classifications[0].class_name) for one in found]
        assert sum(right) >= 11
        for prediction in found:
            confidences = [entry.confidence for entry in prediction.classifications]
            assert confidences == sorted(confidences, reverse=True)
            assert sum(confidences) == pytest.approx(1, abs=1e-3)
        return
    compare = {"detect": box_overlap, "segment": mask_overlap, "pose": near, "obb": turned_overlap}
    scores = []
    for prediction in found:
        label = trained.images.parents[1] / "labels/test" / f"{Path(prediction.image_uri).stem}.txt"
        for line in label.read_text().splitlines():
            class_id, *values = line.split()
            truth = np.array([float(value) for value in values]) * trained.case.side
            of_class = [one for one in prediction.detections if one.class_id == int(class_id)]
            score = compare[trained.case.task]
            scores.append(max((score(one, truth, trained.case.side) for one in of_class), default=0.0))
    print(f"{trained.case}: {np.mean(scores):.2f} on average of {len(scores)} objects")
    assert np.mean([score > 0.3 for score in scores]) > 0.75
    for detection in (one for prediction in found for one in prediction.detections):
        assert detection.HasField("mask") == (trained.case.task == "segment")
        assert bool(detection.polygons) == (trained.case.task == "segment")
        assert bool(detection.keypoints) == (trained.case.task == "pose")
        assert detection.HasField("oriented_box") == (trained.case.task == "obb")


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def drawn(points: list[tuple[float, float]], size: int) -> np.ndarray:
    """Which pixels of an image eight times as large a polygon covers."""
    picture = Image.new("1", (size * 8, size * 8))
    ImageDraw.Draw(picture).polygon([(x * 8, y * 8) for x, y in points], fill=1)
    return np.asarray(picture)


def pairs(values: Any) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))


def box_overlap(found: result_pb2.Detection, truth: np.ndarray, size: int) -> float:
    x, y, width, height = truth[:4]
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    box = found.box
    boxes = [(left, top, right, bottom), (box.x_min, box.y_min, box.x_max, box.y_max)]
    covered = [drawn([(a, b), (c, b), (c, d), (a, d)], size) for a, b, c, d in boxes]
    return overlap(*covered)


def mask_overlap(found: result_pb2.Detection, truth: np.ndarray, size: int) -> float:
    """Of mask and truth, where the outline agrees with the mask."""
    mask = masks.decode(found.mask)
    assert mask.shape == (size, size)
    large = mask.repeat(8, axis=0).repeat(8, axis=1)
    outline = drawn([(x + 0.5, y + 0.5) for x, y in pairs(found.polygons[0].coordinates)], size)
    assert (outline & large).sum() > 0.9 * outline.sum()
    return overlap(large, drawn(pairs(truth), size))


def near(found: result_pb2.Detection, truth: np.ndarray, size: int) -> float:
    """1 where each keypoint is where it should be, 0.5 where they are a tenth of the image away."""
    assert [point.name for point in found.keypoints] == list(KEYPOINT_NAMES)
    points = truth[4:].reshape(-1, 3)[:, :2]
    off = [math.dist((point.x, point.y), there) for point, there in zip(found.keypoints, points, strict=True)]
    return float(max(0, 1 - np.mean(off) / size * 5))


def turned_overlap(found: result_pb2.Detection, truth: np.ndarray, size: int) -> float:
    """Of the turned boxes, where the box that is not turned encloses them."""
    edges = corners(found.oriented_box)
    assert min(x for x, _ in edges) == pytest.approx(found.box.x_min, abs=0.01)
    assert max(y for _, y in edges) == pytest.approx(found.box.y_max, abs=0.01)
    return overlap(drawn(edges, size), drawn(pairs(truth), size))


def test_it_finds_what_the_frameworks_own_command_line_finds(
    trained: Trained, found: list[result_pb2.ImagePrediction], tmp_path: Path
) -> None:
    if trained.case.framework is not SHAPES:
        return
    from ultralytics.cfg import entrypoint  # what `yolo` calls

    settings = f"conf=0.25 iou=0.45 max_det=100 retina_masks=True device=cpu project={tmp_path} name=cli"
    where = f"model={trained.checkpoint} source={trained.images} save_txt=True save_conf=True"
    entrypoint(f"yolo predict {where} {settings}")
    told = 0
    for prediction in found:
        file = tmp_path / "cli/labels" / f"{Path(prediction.image_uri).stem}.txt"
        theirs = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        ours = list(as_they_write(trained.case.task, prediction, trained.case.side))
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            told += 1
            if trained.case.task == "classify":
                assert mine == other
                continue
            numbers = [float(value) for value in other]
            assert mine[0] == numbers[0]  # the class
            assert mine[-1] == pytest.approx(numbers[-1], abs=1e-5)  # the confidence
            assert len(mine) == len(numbers)
            if trained.case.task == "obb":  # they begin at another corner
                mine, numbers = in_order(mine[1:-1]), in_order(numbers[1:-1])
            assert mine[1:-1] == pytest.approx(numbers[1:-1], abs=1e-3 / trained.case.side)
    print(f"{trained.case}: {told} alike")
    assert told >= 12


def in_order(corners_of_one: list[float]) -> list[float]:
    return [value for point in sorted(pairs(corners_of_one)) for value in point]


def as_they_write(task: str, prediction: result_pb2.ImagePrediction, size: int) -> Iterator[list[Any]]:
    """Predictions as lines of ultralytics' text files: class, shares of the image, confidence."""
    for entry in prediction.classifications:
        yield [f"{entry.confidence:.2f}", entry.class_name]
    for one in prediction.detections:
        yield [one.class_id, *written(task, one, size), one.confidence]


def written(task: str, one: result_pb2.Detection, size: int) -> list[float]:
    if task == "segment":
        return [value / size for value in one.polygons[0].coordinates]
    if task == "obb":
        return [value / size for point in corners(one.oriented_box) for value in point]
    points = [(point.x / size, point.y / size, point.confidence) for point in one.keypoints]
    return [*(value / size for value in written_box(one)), *(value for point in points for value in point)]


def written_box(one: result_pb2.Detection) -> list[float]:
    box = one.box
    middle = [(box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2]
    return [*middle, box.x_max - box.x_min, box.y_max - box.y_min]


def test_another_task_is_refused_in_words(trained: Trained, tmp_path: Path) -> None:
    other = "pose" if trained.case.task == "detect" else "detect"
    with pytest.raises(UserError, match=f"{trained.case.task}|classifies") as caught:
        trained.job("infer", tmp_path, image_paths=trained.images, task=other)
    assert caught.value.reason == "UNSUPPORTED"


def test_prompts_are_refused_by_what_takes_none(trained: Trained, tmp_path: Path) -> None:
    if trained.case.framework is not SHAPES:
        return
    prompt = job_pb2.Prompt(box={"x_max": 5, "y_max": 5})
    with pytest.raises(UserError, match=r"best\.pt takes none"):
        trained.job("infer", tmp_path, image_paths=trained.images, prompts=(prompt,))
