"""COCO: which files are understood, what is wrong with them, and that the labels are those of YOLO."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import as_coco
from PIL import Image

from visionmesh.datasets import coco, yolo
from visionmesh.datasets.formats import CLASS_FOLDERS, COCO, YOLO, format_of
from visionmesh.datasets.report import SplitReport
from visionmesh.shapes import write_shapes

Content = dict[str, Any]


def content(split: str = "train") -> Content:
    """Two images with three boxes, one of them of a crowd."""
    return {
        "images": [
            {"id": 1, "file_name": f"{split}1.jpg", "width": 100, "height": 50},
            {"id": 2, "file_name": f"{split}2.jpg", "width": 20, "height": 40},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 10]},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [90, 40, 10.5, 10]},
            {"id": 3, "image_id": 2, "category_id": 3, "bbox": [0, 0, 20, 40], "iscrowd": 1},
        ],
    }


def write(folder: Path, where: str, file: str, listed: Content) -> Path:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(listed))
    for image in listed["images"]:
        (folder / where).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(folder / where / image["file_name"])
    return folder


def told(folder: Path) -> list[tuple[str, str]]:
    report = COCO.check(folder, open_images=True)
    return [(problem.file, problem.message) for problem in report.problems]


LAYOUTS = [
    ("images/train", "annotations/instances_train.json"),
    ("train2017", "annotations/instances_train2017.json"),
    ("images", "annotations/train.json"),
    ("train", "train/_annotations.coco.json"),
]


@pytest.mark.parametrize(("where", "file"), LAYOUTS)
def test_every_usual_place_is_found_and_standardized(tmp_path: Path, where: str, file: str) -> None:
    write(tmp_path, where, file, content())
    assert format_of(tmp_path) is COCO
    before = COCO.check(tmp_path, open_images=True)
    assert before.problems == []
    assert before.class_names == ["cat", "dog"]
    assert before.splits == [SplitReport("train", 2, 2, 2, (1, 1))]
    labels = [(inner, text) for _, inner, text in coco.labelled_images(tmp_path, "train")]
    assert labels == [
        ("train1.jpg", "1 0.250000 0.500000 0.300000 0.200000\n0 0.950000 0.900000 0.100000 0.200000\n"),
        ("train2.jpg", ""),
    ]
    places = COCO.standardize(tmp_path)
    assert sorted(places.values()) == [
        "annotations/instances_train.json",
        "images/train/train1.jpg",
        "images/train/train2.jpg",
    ]
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(
        places.values()
    )
    assert COCO.check(tmp_path, open_images=True) == before
    assert [(i, text) for _, i, text in coco.labelled_images(tmp_path, "train")] == labels


def test_another_layout_is_left_to_its_own_check(tmp_path: Path) -> None:
    write(tmp_path, "images/train", "annotations/instances_train.json", content())
    (tmp_path / "data.yaml").write_text("names: [a]")
    assert format_of(tmp_path) is YOLO
    write(tmp_path / "other", "train/cat", "notes/instances.json", content())
    assert format_of(tmp_path / "other") is CLASS_FOLDERS


def change(path: str, value: Any) -> Callable[[Content], None]:
    """Sets a value in what is listed, given as list/index/key."""

    def apply(listed: Content) -> None:
        *outer, last = path.split("/")
        place: Any = listed
        for step in outer:
            place = place[int(step) if isinstance(place, list) else step]
        place[int(last) if isinstance(place, list) else last] = value

    return apply


WRONG = {
    "box outside": (change("annotations/0/bbox", [90, 20, 30, 10]), "lies outside of the image of 100 x 50"),
    "box without width": (change("annotations/0/bbox", [1, 2, 0, 10]), "must be wider and higher than 0"),
    "box of three": (change("annotations/0/bbox", [1, 2, 3]), "must be [x, y, width, height]"),
    "box of text": (change("annotations/0/bbox", ["1", 2, 3, 4]), "four finite numbers"),
    "box that is infinite": (change("annotations/0/bbox", [1, 2, float("inf"), 4]), "four finite numbers"),
    "no such image": (change("annotations/0/image_id", 9), "annotation 1: there is no image 9"),
    "image id that is a list": (change("annotations/0/image_id", [1]), "there is no image [1]"),
    "no such category": (change("annotations/0/category_id", 1), "there is no category 1"),
    "image that is absent": (
        change("images/1/file_name", "x.jpg"),
        "image 'x.jpg': it is not in the dataset",
    ),
    "image elsewhere": (change("images/1/file_name", "../../x.jpg"), "is not in the dataset"),
    "size that is not the image's": (change("images/0/width", 101), "is listed with 101 x 50"),
    "no size": (change("images/1/height", None), "needs width and height in pixels"),
    "id twice": (change("images/1/id", 1), "needs an id of its own"),
    "categories twice": (change("categories/1/id", 7), "have the same id"),
    "no categories": (change("categories", []), "`categories` must list the classes"),
    "no list": (change("annotations", {"a": 1}), "`annotations` must be a list of objects"),
}


@pytest.mark.parametrize(("spoil", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Callable[[Content], None], words: str) -> None:
    write(tmp_path, "images/train", "annotations/instances_train.json", content())
    listed = content()
    spoil(listed)
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(listed))
    assert any(words in message for _, message in told(tmp_path)), told(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", '{"images": 3', "[" * 100_000, "\ufeff{}"])
def test_a_file_that_lists_nothing_is_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, "images/train", "annotations/instances_train.json", content())
    (tmp_path / "annotations/instances_train.json").write_text(text)
    assert told(tmp_path)[0][0] == "annotations/instances_train.json"


def test_splits_agree_and_share_nothing(tmp_path: Path) -> None:
    write(tmp_path, "images", "annotations/instances_train.json", content())
    other = content("val")
    other["categories"][0]["name"] = "wolf"
    other["images"][0]["file_name"] = "train1.jpg"
    write(tmp_path, "images", "annotations/instances_val.json", other)
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "unlisted.png")
    assert [(file, message[:30]) for file, message in told(tmp_path)] == [
        ("annotations/instances_val.json", "its categories are not those o"),
        ("images/train1.jpg", "it is listed in split 'train' "),
        ("images/unlisted.png", "no file lists it; list it, or "),
        ("images/unlisted.png", "its 9 x 9 pixels are too few; "),
    ]


def test_a_turned_image_is_measured_as_it_is_shown(tmp_path: Path) -> None:
    write(tmp_path, "images/train", "annotations/instances_train.json", content())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 100)).save(tmp_path / "images/train/train1.jpg", exif=exif)
    assert told(tmp_path) == []


def test_the_same_images_have_the_same_labels_in_both_layouts(tmp_path: Path) -> None:
    write_shapes(tmp_path / "yolo", train=12, val=5, test=3, size=64)
    same = as_coco(tmp_path / "yolo", tmp_path / "coco", 64)
    ours, theirs = YOLO.check(tmp_path / "yolo"), COCO.check(same, open_images=True)
    assert theirs.problems == []
    assert (theirs.class_names, theirs.splits) == (ours.class_names, ours.splits)
    for split in ("train", "val", "test"):
        expected = {
            inner: numbers(text or "") for _, inner, text in yolo.labelled_images(tmp_path / "yolo", split)
        }
        found = {inner: numbers(text) for _, inner, text in coco.labelled_images(same, split)}
        assert found.keys() == expected.keys()
        for inner, labels in found.items():
            assert labels == pytest.approx(expected[inner], abs=2e-6), inner


def numbers(labels: str) -> list[float]:
    return [float(word) for word in labels.split()]
