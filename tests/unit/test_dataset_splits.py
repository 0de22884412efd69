"""Datasets that come without splits get them: always the same, and in proportion."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionmesh.datasets import splits, yolo
from visionmesh.datasets.formats import CLASS_FOLDERS, YOLO, examine
from visionmesh.shapes import write_class_folders, write_shapes


def merged(folder: Path, target: Path) -> Path:
    """The dataset without its splits."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        parts = [part for part in path.relative_to(folder).parts if part not in ("train", "val", "test")]
        split = next((part for part in path.relative_to(folder).parts if part in ("train", "val")), "")
        place = target.joinpath(*parts)
        place = place.with_name(f"{split}{place.name}") if split else place
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return target


@given(st.dictionaries(st.text("abc", max_size=2), st.integers(0, 40), max_size=6))
def test_every_group_is_shared_out_in_proportion(sizes: dict[str, int]) -> None:
    groups = {group: [f"{group}/{number}" for number in range(size)] for group, size in sizes.items()}
    shared = splits.share_out(groups)
    assert sorted(shared) == sorted(name for names in groups.values() for name in names)
    assert shared == splits.share_out({group: names[::-1] for group, names in groups.items()})
    for names in groups.values():
        counts = Counter(shared[name] for name in names)
        assert abs(counts["val"] - len(names) * 0.2) <= 1.01
        assert (len(names) < 2) or (counts["val"] >= 1 and counts["train"] >= 1)


def test_class_folders_without_splits(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "split", train=30, val=15, test=0, size=32)
    flat = merged(tmp_path / "split", tmp_path / "flat")
    assert sorted(path.name for path in flat.iterdir()) == ["circle", "square", "triangle"]
    found = examine(flat, tmp_path / "scratch")
    assert (found.layout, found.was_split, found.report.problems) == (CLASS_FOLDERS, True, [])
    assert [(split.name, split.images) for split in found.report.splits] == [("train", 36), ("val", 9)]
    for name in ("circle", "square", "triangle"):
        assert len(list((found.folder / "val" / name).iterdir())) == 3


def test_images_and_labels_without_splits(tmp_path: Path) -> None:
    write_shapes(tmp_path / "split", train=30, val=10, test=0, size=32)
    flat = merged(tmp_path / "split", tmp_path / "flat")
    (flat / "labels" / "train00003.txt").unlink()  # an image that shows nothing
    found = examine(flat, tmp_path / "scratch")
    assert (found.layout, found.was_split, found.report.problems) == (YOLO, True, [])
    train, val = found.report.splits
    assert (train.images + val.images, train.labelled_images + val.labelled_images) == (40, 39)
    assert 5 <= val.images <= 12
    for image, inner, labels in yolo.labelled_images(found.folder, "val"):
        assert labels == (flat / "labels" / Path(inner).with_suffix(".txt")).read_text(), image


@pytest.mark.parametrize("split", ["train", "valid", "images/val"])
def test_a_dataset_that_has_splits_is_left_as_it_is(tmp_path: Path, split: str) -> None:
    for name in ("a", "b"):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / split / name / "1.jpg")
    assert splits.plan(tmp_path) == {}


@pytest.mark.parametrize("names", [(), ("readme.txt",), ("one/1.jpg", "one/2.jpg"), ("1.jpg", "2.jpg")])
def test_what_is_no_dataset_is_left_to_the_check(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert splits.plan(tmp_path) == {}
    assert examine(tmp_path, tmp_path / "scratch").report.problems


def test_problems_are_told_of_the_files_as_they_were(tmp_path: Path) -> None:
    write_shapes(tmp_path / "split", train=10, val=0, test=0, size=32)
    flat = merged(tmp_path / "split", tmp_path / "flat")
    (flat / "labels" / "train00004.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    (flat / "images" / "train00005.jpg").write_bytes(b"no image")
    found = examine(flat, tmp_path / "scratch")
    assert sorted((problem.file, problem.line) for problem in found.report.problems) == [
        ("images/train00005.jpg", 0),
        ("labels/train00004.txt", 1),
    ]
