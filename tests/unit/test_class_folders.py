"""The layout for classification: which folders have it, what is counted, what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from visionmesh.datasets import class_folders
from visionmesh.datasets.formats import CLASS_FOLDERS, YOLO, format_of
from visionmesh.datasets.report import SplitReport


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith((".jpg", ".png")):
            Image.new("RGB", (16, 16)).save(folder / path)
        else:
            (folder / path).write_bytes(b"")
    return folder


def told(folder: Path) -> list[tuple[str, str]]:
    report = CLASS_FOLDERS.check(folder, open_images=True)
    return [(problem.file, problem.message) for problem in report.problems]


GOOD = ("train/cat/1.jpg", "train/cat/2.png", "train/dog/1.jpg", "val/cat/3.jpg", "val/dog/2.jpg")


def test_classes_are_numbered_by_name_and_images_counted(tmp_path: Path) -> None:
    report = CLASS_FOLDERS.check(write(tmp_path, *GOOD), open_images=True)
    assert report.problems == []
    assert report.class_names == ["cat", "dog"]
    assert report.splits == [SplitReport("train", 3, 3, 3, (2, 1)), SplitReport("val", 2, 2, 2, (1, 1))]
    found = class_folders.labelled_images(tmp_path, "train")
    assert [(path.relative_to(tmp_path).as_posix(), int(label)) for path, _, label in found] == [
        ("train/cat/1.jpg", 0),
        ("train/cat/2.png", 0),
        ("train/dog/1.jpg", 1),
    ]


def test_images_may_lie_deeper_in_their_class(tmp_path: Path) -> None:
    write(tmp_path, *GOOD, "train/cat/summer/9.jpg")
    assert CLASS_FOLDERS.check(tmp_path).splits[0].images == 4
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("paths", "layout"),
    [
        (GOOD, CLASS_FOLDERS),
        (("valid/cat/1.jpg",), CLASS_FOLDERS),
        (("images/train/1.jpg", "labels/train/1.txt"), YOLO),
        (("train/images/1.jpg", "train/labels/1.txt"), YOLO),
        ((*GOOD, "data.yaml"), YOLO),
        ((*GOOD, "classes.txt"), YOLO),
        (("cat/1.jpg", "dog/1.jpg"), YOLO),
        ((), YOLO),
    ],
)
def test_the_layout_is_found_out(tmp_path: Path, paths: tuple[str, ...], layout: object) -> None:
    assert format_of(write(tmp_path, *paths)) is layout


@pytest.mark.parametrize(
    ("paths", "file", "words"),
    [
        (("val/cow/1.jpg",), "val/cow", "this class is not in train"),
        (("train/dog2/a.txt",), "train/dog2", "no image of this class"),
        (("train/9.jpg",), "train/9.jpg", "beside the folders of the classes"),
        (("valid/cat/1.jpg",), "valid", "split 'val' is already in val"),
        (("train/cat/x.gif",), "train/cat/x.gif", ".gif is not trained on"),
    ],
)
def test_what_is_wrong_is_named_with_its_mend(
    tmp_path: Path, paths: tuple[str, ...], file: str, words: str
) -> None:
    ((where, what),) = told(write(tmp_path, *GOOD, *paths))
    assert where == file
    assert words in what


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (write(tmp_path, *GOOD) / "train/cat/1.jpg").write_bytes(b"no image")
    assert [file for file, _ in told(tmp_path)] == ["train/cat/1.jpg"]


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    assert told(write(tmp_path, "train/cat/1.jpg"))[0] == (
        "train",
        "there must be at least two classes, each a folder of images below the split",
    )


def test_another_name_of_a_split_becomes_the_usual_one(tmp_path: Path) -> None:
    write(tmp_path, *(path.replace("val/", "valid/") for path in GOOD))
    before = CLASS_FOLDERS.check(tmp_path)
    CLASS_FOLDERS.standardize(tmp_path)
    assert CLASS_FOLDERS.check(tmp_path) == before
    assert (tmp_path / "val/cat/3.jpg").is_file()
