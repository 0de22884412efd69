"""What ultralytics gets to see of a dataset: a view that we write."""

import json
from pathlib import Path

import pytest
import yaml

from runners.process.errors import UserError
from runners.ultralytics.dataset import prepare
from visionmesh.shapes import KEYPOINT_NAMES, write_shapes


def classes_of_images(folder: Path, *names: str) -> Path:
    """COCO files that tell of each image what it is: the n-th of the n-th class."""
    write_shapes(folder, train=len(names), val=len(names), test=0, size=32)
    for split in ("train", "val"):
        content = {
            "images": [
                {"id": number, "file_name": f"{number:05}.jpg", "width": 32, "height": 32}
                for number, _ in enumerate(names)
            ],
            "annotations": [
                {"id": number, "image_id": number, "category_id": number} for number, _ in enumerate(names)
            ],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    (folder / "data.yaml").unlink()
    return folder


def test_classes_are_numbered_as_ultralytics_numbers_them(tmp_path: Path) -> None:
    data = classes_of_images(tmp_path / "data", "dog", "cat", "ant")
    made = prepare(data, tmp_path / "work", ("train", "val"), "classify")
    assert made.class_names == ("ant", "cat", "dog")
    assert sorted(path.name for path in (made.source / "val").iterdir()) == ["ant", "cat", "dog"]
    (dog,) = (made.source / "train/dog").iterdir()
    assert dog.resolve() == (data / "images/train/00000.jpg").resolve()


@pytest.mark.parametrize("name", ["../../stolen", "a/b", ".hidden", "x" * 300])
def test_a_class_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    data = classes_of_images(tmp_path / "data", "cat", name)
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}
    with pytest.raises(UserError, match="cannot be a folder") as caught:
        prepare(data, tmp_path / "work", ("train", "val"), "classify")
    assert caught.value.reason == "DATASET_INVALID"
    assert {path for path in tmp_path.rglob("*") if "work" not in path.parts} == before


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    data = classes_of_images(tmp_path / "data", "cat", "cat")
    with pytest.raises(UserError, match="the same name"):
        prepare(data, tmp_path / "work", ("train", "val"), "classify")


def test_keypoints_are_told_of_in_our_own_words(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", train=2, val=2, test=0, size=32, task="pose")
    made = prepare(tmp_path / "data", tmp_path / "work", ("train", "val"), "pose")
    told = yaml.safe_load(made.source.read_text())
    assert told["kpt_shape"] == [3, 3]
    assert told["flip_idx"] == [0, 2, 1]
    assert told["kpt_names"] == {number: list(KEYPOINT_NAMES) for number in range(3)}
    line = next((tmp_path / "work/dataset/labels/train").iterdir()).read_text().splitlines()[0]
    assert len(line.split()) == 5 + 3 * 3


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_labels_that_say_more_serve_for_boxes(tmp_path: Path, task: str) -> None:
    write_shapes(tmp_path / "data", train=4, val=2, test=0, size=64, task=task)
    made = prepare(tmp_path / "data", tmp_path / "work", ("train", "val"), "detect")
    assert "kpt_shape" not in yaml.safe_load(made.source.read_text())
    for label in (tmp_path / "work/dataset/labels").rglob("*.txt"):
        assert all(len(line.split()) == 5 for line in label.read_text().splitlines())
