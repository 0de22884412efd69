"""Datasets that come without splits get them: always the same, and in proportion."""

import json
from collections import Counter
from pathlib import Path, PurePosixPath
from random import Random

import pytest
from dataset_copies import as_coco, as_images_json
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visionmesh.datasets import splits, yolo
from visionmesh.datasets._stratified import share_out
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


IMAGES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.sets(st.sampled_from("wxyz"), max_size=3)
)


@given(st.dictionaries(st.text("abc", max_size=2), st.integers(0, 40), max_size=6))
def test_every_class_is_shared_out_in_proportion(sizes: dict[str, int]) -> None:
    classes = {f"{label}/{n}": [label] for label, size in sizes.items() for n in range(size)}
    shared = share_out(classes)
    assert shared.keys() == classes.keys()
    for label, size in sizes.items():
        counts = Counter(shared[name] for name in classes if classes[name] == [label])
        assert abs(counts["val"] - size * 0.2) < 1
        assert (size < 2) or (counts["val"] >= 1 and counts["train"] >= 1)


@given(IMAGES)
def test_images_of_several_classes_are_shared_out_by_name_alone(images: dict[str, set[str]]) -> None:
    shared = share_out(images)
    assert shared == share_out(dict(reversed(images.items())))
    assert shared == {
        PurePosixPath(name).stem: split
        for name, split in share_out({f"x/{name}.jpg": labels for name, labels in images.items()}).items()
    }
    if len(images) > 1:
        assert set(shared.values()) == {"train", "val"}


def test_a_large_set_of_several_classes_keeps_their_proportions() -> None:
    rng = Random(0)  # noqa: S311 - labels, not secrets
    images = {
        str(n): {c for c, part in zip("abcd", (0.5, 0.3, 0.1, 0.03), strict=True) if rng.random() < part}
        for n in range(2000)
    }
    shared = share_out(images)
    for label in "abcd":
        has = [name for name in images if label in images[name]]
        part = sum(shared[name] == "val" for name in has) / len(has)
        print(f"{label}: {len(has)} images, {part:.3f} of them for validation")
        assert part == pytest.approx(0.2, abs=0.02)
    assert Counter(shared.values())["val"] == pytest.approx(400, abs=10)


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
    assert not splits.plan(tmp_path)


@pytest.mark.parametrize("names", [(), ("readme.txt",), ("one/1.jpg", "one/2.jpg"), ("1.jpg", "2.jpg")])
def test_what_is_no_dataset_is_left_to_the_check(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert not splits.plan(tmp_path)
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


def split_names(folder: Path, scratch: Path) -> dict[str, str]:
    """The split of each image, by its name."""
    found = examine(folder, scratch)
    assert (found.report.problems, found.was_split) == ([], True)
    return {
        Path(inner).stem.split("_")[-1]: split
        for split in ("train", "val")
        for _, inner, _ in found.layout.labelled_images(found.folder, split)
    }


def test_the_same_images_are_split_alike_in_every_layout(tmp_path: Path) -> None:
    write_shapes(tmp_path / "whole", train=40, val=0, test=0, size=32)
    yolo_copy = merged(tmp_path / "whole", tmp_path / "yolo")
    for image in sorted((tmp_path / "whole/images/train").iterdir()):  # as `merged` calls them
        labels = tmp_path / "whole/labels/train" / f"{image.stem}.txt"
        labels.rename(labels.with_name(f"train{labels.name}"))
        image.rename(image.with_name(f"train{image.name}"))
    coco_copy = as_coco_without_splits(tmp_path / "whole", tmp_path / "coco")
    json_copy = as_images_json(tmp_path / "whole", tmp_path / "json", 32)
    for kind in ("images", "annotations"):
        flatten(json_copy / kind)
    expected = split_names(yolo_copy, tmp_path / "1")
    assert Counter(expected.values()) == {"train": 32, "val": 8}
    assert split_names(coco_copy, tmp_path / "2") == expected
    assert split_names(json_copy, tmp_path / "3") == expected


def test_splits_that_files_tell_are_taken(tmp_path: Path) -> None:
    for name, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        for kind in ("images", "annotations"):
            (tmp_path / kind).mkdir(exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps({"label": name, "split": split}))
    found = examine(tmp_path, tmp_path / "scratch")
    assert (found.report.problems, found.was_split) == ([], False)
    assert [(split.name, split.class_instances) for split in found.report.splits] == [
        ("train", (1, 0, 0)),
        ("val", (0, 1, 0)),
        ("test", (0, 0, 1)),
    ]
    (tmp_path / "annotations" / "c.json").write_text('{"label": "c"}')
    (problem,) = examine(tmp_path, tmp_path / "again").report.problems
    assert (problem.file, problem.message[:20]) == ("annotations/c.json", "it lacks `split`, an")


def test_a_listing_that_is_no_good_is_told_of_as_it_was_sent(tmp_path: Path) -> None:
    write_shapes(tmp_path / "yolo", train=6, val=0, test=0, size=32)
    copy = as_coco_without_splits(tmp_path / "yolo", tmp_path / "coco")
    listing = copy / "annotations/instances.json"
    listed = json.loads(listing.read_text())
    listed["annotations"][0]["bbox"] = [1, 2, 3]
    listing.write_text(json.dumps(listed))
    (problem,) = examine(copy, tmp_path / "a").report.problems
    assert (problem.file, problem.message[:12]) == ("annotations/instances.json", "annotation 1")
    listing.write_text("{")
    assert examine(copy, tmp_path / "b").report.problems[0].file == "annotations/instances.json"


@pytest.mark.parametrize(
    ("kind", "names", "file"),
    [
        ("labels", ("0.txt",), "labels/0.txt"),
        ("annotations", ("0.json",), "annotations/0.json"),
        ("annotations", ("instances.json",), "annotations/instances.json"),
    ],
)
def test_files_that_are_too_large_are_not_read(
    tmp_path: Path, kind: str, names: tuple[str, ...], file: str
) -> None:
    (tmp_path / "images").mkdir()
    for name in "01":
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / f"{name}.jpg")
    if kind == "labels":
        (tmp_path / "classes.txt").write_text("cat")
    (tmp_path / kind).mkdir()
    for name in names:
        with (tmp_path / kind / name).open("wb") as large:
            large.truncate(3 * 2**30)  # takes no room on the disk
    problems = examine(tmp_path, tmp_path / "scratch").report.problems
    assert [problem.message for problem in problems if problem.file == file and "bytes" in problem.message]


def as_coco_without_splits(source: Path, target: Path) -> Path:
    copy = as_coco(source, target, 32)
    (copy / "annotations/instances_train.json").rename(copy / "annotations/instances.json")
    flatten(copy / "images")
    return copy


def flatten(folder: Path) -> None:
    """Take away its folder train."""
    for path in (folder / "train").iterdir():
        path.rename(folder / path.name)
    (folder / "train").rmdir()
