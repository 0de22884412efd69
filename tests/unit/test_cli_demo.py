"""The demo compares fairly, and what it prints can be pasted."""

import io
from pathlib import Path

import protovalidate
import pytest
from rich.console import Console

from visionmesh.demo._pipeline import infer_job, train_job, validate_job
from visionmesh.demo._report import show_files, show_next_steps, show_predictions
from visionmesh.demo._truth import Truth, iou, matched, read_truth
from visionmesh.v1 import job_pb2, result_pb2


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> result_pb2.BoundingBox:
    return result_pb2.BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


def found(name: str, where: result_pb2.BoundingBox, confidence: float = 0.9) -> result_pb2.Detection:
    return result_pb2.Detection(class_name=name, box=where, confidence=confidence)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (box(0, 0, 10, 10), box(0, 0, 10, 10), 1.0),
        (box(0, 0, 10, 10), box(5, 0, 15, 10), 1 / 3),
        (box(0, 0, 10, 10), box(10, 0, 20, 10), 0.0),
        (box(0, 0, 10, 10), box(2, 2, 8, 8), 0.36),
    ],
    ids=["same", "half", "touching", "inside"],
)
def test_iou(one: result_pb2.BoundingBox, other: result_pb2.BoundingBox, overlap: float) -> None:
    assert iou(one, other) == pytest.approx(overlap)


def test_truth_is_read_in_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("2 0.5 0.25 0.5 0.25\n0 0.1 0.1 0.2 0.2\n")
    triangle, circle = read_truth(tmp_path / "a.txt", 100, 200)
    assert triangle == Truth("triangle", box(25, 25, 75, 75))
    assert circle.class_name == "circle"


CIRCLE, SQUARE = Truth("circle", box(0, 0, 10, 10)), Truth("square", box(20, 20, 30, 30))


@pytest.mark.parametrize(
    ("detections", "count"),
    [
        ([], 0),
        ([found("circle", CIRCLE.box), found("square", SQUARE.box)], 2),
        ([found("square", CIRCLE.box)], 0),
        ([found("circle", CIRCLE.box), found("circle", CIRCLE.box, 0.5)], 1),
        ([found("circle", box(6, 0, 16, 10))], 0),
    ],
    ids=["nothing", "all", "wrong class", "twice", "beside"],
)
def test_a_shape_is_found_by_one_detection_of_its_class_on_its_place(
    detections: list[result_pb2.Detection], count: int
) -> None:
    assert matched([CIRCLE, SQUARE], detections) == count


def test_an_image_is_right_only_without_anything_missing_or_added(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    where = box(40, 40, 60, 60)
    predictions = [
        result_pb2.ImagePrediction(image_uri="file:///d/0.jpg", width=100, height=100, detections=detections)
        for detections in (
            [found("circle", where)],
            [],
            [found("circle", where), found("square", box(0, 0, 9, 9))],
        )
    ]
    console = Console(file=io.StringIO(), width=120)
    assert show_predictions(console, predictions, tmp_path) == (1, 3)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[-2:] for line in lines[2:]] == [["✓", "1/1"], ["✗", "0/1"], ["✗", "1/1"]]


@pytest.mark.parametrize(
    "job",
    [
        train_job("datasets/shapes"),
        validate_job("datasets/shapes", "jobs/t/artifacts/best"),
        infer_job("datasets/shapes", "jobs/t/artifacts/best"),
    ],
    ids=["train", "validate", "infer"],
)
def test_the_jobs_are_valid_requests(job: job_pb2.Job) -> None:
    protovalidate.validate(job_pb2.CreateJobRequest(job=job))


def test_long_lines_are_not_broken(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=40)
    file = tmp_path / "results" / "train" / "best.pt"
    overlays = [tmp_path / "results" / "infer" / "overlays" / f"{n}.jpg" for n in range(3)]
    show_files(console, [file, *overlays])
    show_next_steps(console, "127.0.0.1:7", tmp_path, "jobs/t", kept=True)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert str(file) in lines
    assert f"{overlays[0].parent}/  (3 images with predictions drawn in)" in lines
    assert "vmesh result jobs/t --address 127.0.0.1:7" in lines
    assert any(line.startswith('grpcurl -plaintext -d \'{"job": "jobs/t"}\' 127.0.0.1:7 ') for line in lines)
