"""ONNX files of YuNet and SFace: what OpenCV makes of them arrives named, scaled and turned upright."""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from job_recorder import JobRun
from onnx_models import CELL, POINTS, write_detector, write_embedder
from PIL import Image

from runners.faces import alignment, detector
from runners.faces.detector import LANDMARKS
from runners.faces.framework import Faces
from runners.process.errors import UserError

Run = partial(JobRun, Faces())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_detector(folder / "yunet")  # uploads have no ending
    write_embedder(folder / "sface")
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Two green squares on the detector's grid, one a little paler; the width is no multiple of it."""
    image = Image.new("RGB", (200, 128), (90, 90, 90))
    image.paste((0, 255, 0), (3 * CELL, CELL, 4 * CELL, 2 * CELL))
    image.paste((40, 240, 30), (CELL, 2 * CELL, 2 * CELL, 3 * CELL))
    image.save(tmp_path / "squares.png")
    return tmp_path / "squares.png"


def test_landmarks_have_the_sides_that_the_person_has(models: Path, picture: Path, tmp_path: Path) -> None:
    run = Run(
        kind="detect_faces", checkpoint_path=models / "yunet", image_paths=picture, output_path=tmp_path
    ).go()
    (prediction,) = run.results("prediction")
    first, second = prediction.faces
    corners = (first.box.x_min, first.box.y_min, first.box.x_max, first.box.y_max)
    assert corners == pytest.approx((96, 32, 128, 64), abs=0.01)
    assert (second.box.x_min, second.box.y_min) == pytest.approx((32, 64), abs=0.01)
    assert first.confidence == pytest.approx(1, abs=0.01)
    assert second.confidence == pytest.approx((240 - 40 - 30) / 255, abs=0.01)
    places = {point.name: (point.x, point.y) for point in first.landmarks}
    assert tuple(places) == LANDMARKS
    assert places["left_eye"][0] > places["nose"][0] > places["right_eye"][0]
    right_eye, left_eye, nose, mouth_right, mouth_left = (
        pytest.approx((96 + 32 * x, 32 + 32 * y), abs=0.01) for x, y in POINTS
    )
    assert (places["left_eye"], places["right_eye"], places["nose"]) == (left_eye, right_eye, nose)
    assert (places["mouth_left"], places["mouth_right"]) == (mouth_left, mouth_right)


def test_large_images_are_looked_at_scaled_down(models: Path, picture: Path, tmp_path: Path) -> None:
    with Image.open(picture) as opened:
        opened.resize((800, 512), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    run = Run(
        kind="detect_faces",
        checkpoint_path=models / "yunet",
        image_paths=tmp_path / "large.png",
        output_path=tmp_path,
        hyperparameters={"max_side": 200},
    ).go()
    box = run.results("prediction")[0].faces[0].box
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((384, 128, 512, 256), abs=0.1)


def test_a_vector_is_of_the_face_turned_upright(models: Path, picture: Path, tmp_path: Path) -> None:
    run = Run(
        kind="embed_faces",
        checkpoint_path=models / "yunet",
        embedding_checkpoint_path=models / "sface",
        image_paths=picture,
        output_path=tmp_path,
        inline_values=True,
    ).go()
    (prediction,) = run.results("prediction")
    face = prediction.faces[1]
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))[..., ::-1]
    upright = alignment.align(np.ascontiguousarray(pixels), face, 112, 0.2)
    tiles = upright.reshape(8, 14, 8, 14, 3).mean(axis=(1, 3))
    wanted = np.concatenate([tiles[..., 2].ravel(), tiles[..., 0].ravel()])
    vector = np.array(face.embedding.values)
    assert vector == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)
    kept = np.load(tmp_path / "faces" / "1.bin")
    assert (kept.dtype, kept.tolist()) == (np.float32, list(face.embedding.values))
    assert face.embedding.artifact == "jobs/local/artifacts/faces/1.bin"
    assert face.crop_artifact == "jobs/local/artifacts/faces/1.jpg"
    with Image.open(tmp_path / "faces" / "1.jpg") as crop:
        assert crop.size == (112, 112)
    assert run.results("inference")[0].embedding_dimension == 128


def test_a_face_is_turned_upright_as_opencv_does(models: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    image = cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)
    right_eye, left_eye, nose, mouth_right, mouth_left = (
        *((120.0, 100.0), (180.0, 80.0), (160.0, 120.0)),
        *((150.0, 150.0), (195.0, 135.0)),
    )
    row = np.array([[100, 60, 110, 110, *right_eye, *left_eye, *nose, *mouth_right, *mouth_left, 1]])
    recognizer = cv2.FaceRecognizerSF.create(
        "onnx", np.fromfile(models / "sface", np.uint8), np.empty(0, np.uint8)
    )
    theirs = recognizer.alignCrop(image, row.astype(np.float32))
    found = detector.face(row[0, :4], 1, [left_eye, right_eye, nose, mouth_left, mouth_right], 1)
    ours = alignment.align(image, found, 112, 0.2)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.mean() < 1
    assert np.abs(alignment.align(image, detector.face(row[0, :4], 1, (), 1), 112, 0.2) - theirs).mean() > 10


@pytest.mark.parametrize(
    "content", [b"", b"no network at all", b"\x08\x06\x12\xff\xff\xff\xff\x0f", "swapped"]
)
@pytest.mark.parametrize("which", ["checkpoint_path", "embedding_checkpoint_path"])
def test_a_file_of_another_kind_is_refused(
    models: Path, picture: Path, tmp_path: Path, content: Any, which: str
) -> None:
    paths = {"checkpoint_path": models / "yunet", "embedding_checkpoint_path": models / "sface"}
    if content == "swapped":
        paths[which] = next(path for name, path in paths.items() if name != which)
    else:
        paths[which] = tmp_path / "file.onnx"
        paths[which].write_bytes(content)
    run = Run(kind="embed_faces", image_paths=picture, output_path=tmp_path / "out", **paths)
    with pytest.raises(UserError, match=f"{paths[which].name} is not a model that can be used here"):
        run.go()


def test_half_a_file_is_refused(models: Path, picture: Path, tmp_path: Path) -> None:
    whole = (models / "yunet").read_bytes()
    for size in range(1, len(whole), len(whole) // 40):
        half = tmp_path / "half.onnx"
        half.write_bytes(whole[:size])
        run = Run(
            kind="detect_faces", checkpoint_path=half, image_paths=picture, output_path=tmp_path / "out"
        )
        with pytest.raises(UserError, match="half"):
            run.go()
