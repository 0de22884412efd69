"""Faces are found in the photographs that come with ultralytics, and cut out."""

import importlib.util
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from job_recorder import JobRun
from PIL import Image

from runners.faces import detector, manifest
from runners.faces.detector import overlap
from runners.faces.framework import Faces
from runners.faces.trained import landmarks
from runners.process.errors import Stopped, UserError
from visionmesh.v1 import result_pb2

Run = partial(JobRun, Faces())

# Drawn around by hand; the man who shouts on the left of zidane.jpg is seen from the side.
FACES = {
    "bus.jpg": [(113, 415, 168, 472), (264, 418, 318, 482)],
    "zidane.jpg": [(915, 105, 1075, 290)],
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two of ultralytics, and a file that is none."""
    folder = tmp_path_factory.mktemp("photographs")
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    for name in FACES:
        shutil.copy(Path(spec.origin).parent / "assets" / name, folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def found(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> JobRun:
    """What the default finds in them."""
    output = tmp_path_factory.mktemp("found")
    return Run(
        kind="detect_faces", image_paths=photographs, output_path=output, batch_size=1, save_overlays=True
    ).go()


def by_name(run: JobRun) -> dict[str, result_pb2.ImagePrediction]:
    return {Path(prediction.image_uri).name: prediction for prediction in run.results("prediction")}


def test_faces_seen_from_the_front_are_found_and_nothing_else(found: JobRun) -> None:
    for name, wanted in FACES.items():
        prediction = by_name(found)[name]
        assert len(prediction.faces) == len(wanted), name
        assert [face.face_index for face in prediction.faces] == list(range(len(wanted)))
        confidences = [face.confidence for face in prediction.faces]
        assert confidences == sorted(confidences, reverse=True)
        assert all(0.25 <= confidence <= 1 for confidence in confidences)
        for x_min, y_min, x_max, y_max in wanted:
            box = result_pb2.BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)
            assert max(overlap(box, face.box) for face in prediction.faces) > 0.6, name
    (totals,) = found.results("inference")
    assert (totals.total_images, totals.failed_images) == (3, 1)
    assert dict(totals.detections_per_class) == {"face": 3}
    print({name: [round(f.confidence, 2) for f in p.faces] for name, p in by_name(found).items()})


def test_an_image_that_cannot_be_read_is_an_error_entry(found: JobRun) -> None:
    assert [prediction.index for prediction in found.results("prediction")] == [0, 1, 2]
    assert by_name(found)["broken.jpg"].error.message.startswith("broken.jpg cannot be read")


def test_each_face_is_kept_as_a_picture_and_drawn_in(found: JobRun) -> None:
    output = found.environment.output_path
    kept = {file.path: file for file in found.files}
    bus, zidane = by_name(found)["bus.jpg"], by_name(found)["zidane.jpg"]
    assert set(kept) == {
        *(f"faces/{bus.index}/{number}.jpg" for number in (0, 1)),
        f"faces/{zidane.index}/0.jpg",
        *(f"overlays/{prediction.index}.jpg" for prediction in (bus, zidane)),
    }
    name = f"faces/{zidane.index}/0.jpg"
    assert zidane.faces[0].crop_artifact == f"jobs/local/artifacts/{name}"
    assert kept[name].kind == result_pb2.ARTIFACT_KIND_FACE_CROP
    box = zidane.faces[0].box
    with Image.open(output / name) as crop:
        assert crop.width == pytest.approx(1.4 * (box.x_max - box.x_min), abs=2)
        assert crop.height == pytest.approx(1.4 * (box.y_max - box.y_min), abs=2)
    with Image.open(output / f"overlays/{zidane.index}.jpg") as drawn:
        assert drawn.size == (zidane.width, zidane.height)
        edge = drawn.getpixel((int(box.x_max), int((box.y_min + box.y_max) / 2)))
    assert edge == pytest.approx((0x2F, 0x78, 0xB7), abs=40)  # the colour of boxes around faces


def test_of_two_that_overlap_the_surer_one_is_kept() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    places = [(0, 0, 40, 40), (5, 5, 40, 40), (-10, 60, 30, 30), (30, 30, 40, 40), (100, 0, 9, 9)]
    confidences = (0.5, 0.9, 0.8, 0.6, 1.0)
    candidates = [detector.face(box, sure, (), 1) for box, sure in zip(places, confidences, strict=True)]
    limits: dict[str, Any] = {"confidence": 0.1, "nms_threshold": 0.3, "most": 9}
    chosen = detector.kept(candidates, image, **limits)
    assert [round(face.confidence, 1) for face in chosen] == [0.9, 0.8, 0.6]
    assert [face.face_index for face in chosen] == [0, 1, 2]
    assert (chosen[1].box.x_min, chosen[1].box.x_max) == (0, 20), "inside the image"
    nowhere = [
        detector.face((math.nan, 0, 40, 40), 1, (), 1),
        detector.face((0, 0, 40, 40), 1, [(1, 2), (3, math.inf), (5, 6), (7, 8), (9, 10)], 1),
    ]
    assert detector.kept(nowhere, image, **limits) == [], "what a broken network may answer"


def test_keypoints_are_landmarks_if_they_have_their_names() -> None:
    names = ("nose", "left_eye", "mouth_right", "right_eye", "mouth_left")
    points = [result_pb2.Keypoint(name=name, x=number) for number, name in enumerate(names)]
    found = list(landmarks(result_pb2.Detection(keypoints=points)))
    assert tuple(point.name for point in found) == detector.LANDMARKS
    assert [point.x for point in found] == [1, 3, 0, 4, 2]
    assert list(landmarks(result_pb2.Detection(keypoints=points[:4]))) == []


def test_one_image_has_its_faces_in_one_folder_as_it_is_shown(photographs: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    with Image.open(photographs / "bus.jpg") as opened:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by a quarter
        opened.rotate(90, expand=True).save(turned, exif=exif, quality=95)
    run = Run(kind="detect_faces", image_paths=turned, output_path=tmp_path / "out").go()
    (prediction,) = run.results("prediction")
    assert (prediction.width, prediction.height) == (810, 1080)
    for face in prediction.faces:
        assert max(overlap(result_pb2.BoundingBox(**corners), face.box) for corners in boxes("bus.jpg")) > 0.6
    assert [file.path for file in run.files] == [f"faces/{face.face_index}.jpg" for face in prediction.faces]


def boxes(name: str) -> list[dict[str, float]]:
    corners = ("x_min", "y_min", "x_max", "y_max")
    return [dict(zip(corners, box, strict=True)) for box in FACES[name]]


def test_it_goes_on_after_the_last_image_that_is_done(photographs: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"kind": "detect_faces", "image_paths": photographs, "batch_size": 1}
    stopped = Run(stop_at=3, output_path=tmp_path / "a", **values)
    with pytest.raises(Stopped):
        stopped.go()
    assert [prediction.index for prediction in stopped.results("prediction")] == [0, 1]
    rest = Run(output_path=tmp_path / "b", first_image_index=2, **values).go()
    assert [prediction.index for prediction in rest.results("prediction")] == [2]
    assert rest.files[0].path == "faces/2/0.jpg"


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"max_detections": 1}, 1),
        ({"confidence_threshold": 0.8}, 1),
        ({"hyperparameters": {"min_size": 55}}, 1),
        ({"hyperparameters": {"max_side": 320}}, 0),
        ({"save_crops": False}, 2),
    ],
    ids=str,
)
def test_what_is_set_holds(photographs: Path, tmp_path: Path, settings: dict[str, Any], count: int) -> None:
    bus = photographs / "bus.jpg"
    run = Run(kind="detect_faces", image_paths=bus, output_path=tmp_path, **settings).go()
    (prediction,) = run.results("prediction")
    assert len(prediction.faces) == count
    assert len(run.files) == (0 if "save_crops" in settings else count)


def test_faces_seen_from_the_side_look_either_way(photographs: Path, tmp_path: Path) -> None:
    """The cascade knows one side only: the mirror image finds the other."""
    mirrored = tmp_path / "mirrored.jpg"
    with Image.open(photographs / "bus.jpg") as opened:
        opened.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored, quality=95)
    values: dict[str, Any] = {"kind": "detect_faces", "model_name": "haar-profile"}
    values |= {"output_path": tmp_path, "hyperparameters": {"min_size": 50}}
    (one,) = Run(image_paths=photographs / "bus.jpg", **values).go().results("prediction")
    (other,) = Run(image_paths=mirrored, **values).go().results("prediction")
    assert len(one.faces) == len(other.faces) == 2
    for face in one.faces:
        box = face.box
        flipped = result_pb2.BoundingBox(
            x_min=810 - box.x_max, x_max=810 - box.x_min, y_min=box.y_min, y_max=box.y_max
        )
        assert max(overlap(flipped, match.box) for match in other.faces) > 0.7


def test_faces_are_found_without_torch(photographs: Path, tmp_path: Path) -> None:
    """By hand, as a script: it starts at once and prints what it finds."""
    code = (
        "import sys\n"
        "from runners.faces.framework import Faces\n"
        "from runners.process.entry import run\n"
        "from runners.process.zygote import check_forkable\n"
        "Faces().preload()\n"
        "check_forkable()\n"
        "code = run('detect_faces', Faces())\n"
        "assert 'torch' not in sys.modules\n"
        "raise SystemExit(code)\n"
    )
    environ = {"IMAGE_PATHS": str(photographs / "zidane.jpg"), "OUTPUT_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"cropArtifact": "jobs/local/artifacts/faces/0.jpg"' in done.stdout


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_name": "haar-frontal", "checkpoint_path": Path("x.onnx")}, "brings its own weights"),
        ({"model_name": "sface"}, "no face detector 'sface'; known: haar-frontal, haar-profile"),
        ({"device": "cuda:0"}, "OpenCV computes on the CPU. Unset it"),
        ({"kind": "infer"}, "runs detect_faces and embed_faces; KIND is 'infer'"),
        ({"kind": "embed_faces"}, "vectors of random weights say nothing"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    photographs: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    values = {"kind": "detect_faces", "image_paths": photographs, "output_path": tmp_path}
    with pytest.raises(UserError, match=words):
        Run(**{**values, **settings}).go()


def test_the_manifest_says_what_there_is() -> None:
    listed = manifest.manifest()
    assert list(listed.kinds) == ["detect_faces", "embed_faces"]
    assert [model.name for model in listed.models][:2] == ["haar-frontal", "haar-profile"]
    told = {item.name: MessageToDict(item.default) for item in listed.hyperparameters}
    assert told == manifest.defaults()
    assert np.all([item.min <= told[item.name] <= item.max for item in listed.hyperparameters])
