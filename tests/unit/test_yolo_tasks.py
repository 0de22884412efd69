"""YOLO labels of every task: which form a dataset's lines have, and what is wrong with one."""

from pathlib import Path

import pytest

from visionmesh.datasets import yolo
from visionmesh.datasets.formats import YOLO
from visionmesh.datasets.report import DatasetReport

BOX = "0 0.5 0.5 0.2 0.4"
TRIANGLE = "1 0.1 0.1 0.5 0.1 0.3 0.5"
CORNERS = "1 0.1 0.1 0.5 0.1 0.5 0.3 0.1 0.3"
POINTS = f"{BOX} 0.4 0.4 2 0.6 0.4 1"
POSE = (
    "kpt_shape: [2, 3]\nflip_idx: [1, 0]\nkpt_names: {0: [left eye, right eye], 1: [left eye, right eye]}\n"
)


def check(folder: Path, *labels: str, yaml: str = "") -> DatasetReport:
    (folder / "images/train").mkdir(parents=True)
    (folder / "labels/train").mkdir(parents=True)
    (folder / "data.yaml").write_text(f"names: [cat, dog]\n{yaml}")
    for number, text in enumerate(labels):
        (folder / f"images/train/{number}.jpg").write_bytes(b"")
        (folder / f"labels/train/{number}.txt").write_text(text)
    return YOLO.check(folder)


def told(report: DatasetReport) -> list[tuple[str, int]]:
    return [(problem.file, problem.line) for problem in report.problems]


@pytest.mark.parametrize(
    ("labels", "yaml", "tasks"),
    [
        ([BOX, ""], "", ("detect",)),
        ([], "", ("detect",)),
        ([TRIANGLE], "", ("segment", "detect")),
        ([f"{TRIANGLE}\n{CORNERS}\n{CORNERS}"], "", ("segment", "detect")),
        ([CORNERS], "", ("obb", "segment", "detect")),
        ([CORNERS], "task: segment", ("segment", "obb", "detect")),
        ([TRIANGLE], "task: detect", ("detect", "segment")),
        ([POINTS], POSE, ("pose", "detect")),
        ([], POSE, ("pose", "detect")),
        (["0", "1\n"], "", ("classify",)),
    ],
)
def test_the_form_of_the_lines_tells_the_task(
    tmp_path: Path, labels: list[str], yaml: str, tasks: tuple[str, ...]
) -> None:
    report = check(tmp_path, *(labels or [""]), yaml=yaml)
    assert report.problems == []
    assert report.tasks == tasks
    for _, _, text in YOLO.labelled_images(tmp_path, "train", tasks[0]):
        if tasks[0] != "detect":
            assert text in labels or text == ""


def test_what_says_more_than_a_box_has_a_box(tmp_path: Path) -> None:
    check(tmp_path / "outlines", f"{TRIANGLE}\n\n{CORNERS}\n")
    check(tmp_path / "points", POINTS, yaml=POSE)
    (_, _, outlines), (_, _, points) = (
        *yolo.labelled_images(tmp_path / "outlines", "train", "detect"),
        *yolo.labelled_images(tmp_path / "points", "train", "detect"),
    )
    assert outlines == "1 0.300000 0.300000 0.400000 0.400000\n1 0.300000 0.200000 0.400000 0.200000\n"
    assert points == f"{BOX}\n"


def test_keypoints_are_told_with_the_dataset(tmp_path: Path) -> None:
    report = check(tmp_path / "a", POINTS, yaml=POSE)
    assert (report.keypoint_shape, report.flip_indices) == ((2, 3), (1, 0))
    assert report.keypoint_names == ("left eye", "right eye")
    sided = "kpt_shape: [3, 2]\nkpt_names: [nose, left_ear, right_ear]"
    assert check(tmp_path / "b", yaml=sided).flip_indices == (0, 2, 1)
    assert check(tmp_path / "c", yaml="kpt_shape: [3, 2]\nkpt_names: [a, b, c]").flip_indices == ()


@pytest.mark.parametrize(
    ("labels", "yaml", "where", "words"),
    [
        (f"{BOX}\n{BOX}\n{TRIANGLE}", "", 3, "got 7 fields: a line for segment among labels for detect"),
        (f"{TRIANGLE}\n{TRIANGLE}\n{BOX}", "", 3, "a line for detect among labels for segment"),
        (f"{BOX}\n{BOX}\n0", "", 3, "a line for classify among labels for detect"),
        ("0\n1", "", 2, "the image has a class already; leave one line"),
        ("5", "", 1, "class 5 does not exist"),
        ("0 0.1 0.1 0.5 0.1 0.3 1.5", "", 1, "point 3: y must be a share of the image from 0 to 1, got 1.5"),
        ("0 0.1 0.1 0.5 0.1 0.3 x", "", 1, "point 3: y must be a finite number"),
        ("0 0.1 0.1 0.5 0.1 0.3 0.1", "", 1, "its points all lie on one line"),
        (f"{CORNERS} 0.5", "task: obb", 1, "four corners, got 10 fields"),
        (BOX, POSE, 1, "and 2 keypoints `x y visible`: 11 fields, got 5 fields"),
        (
            f"{BOX} 0.4 0.4 2 0.6 0.4 3",
            POSE,
            1,
            "keypoint 2: visible must be 0 (not labelled), 1 (hidden) or 2",
        ),
        (f"{BOX} 0.4 4.4 2 0.6 0.4 1", POSE, 1, "keypoint 1: y must be a share"),
        ("7 0.5 0.5 0.2 0 0.4 0.4 2 0.6 0.4 1", POSE, 1, "class 7 does not exist"),
    ],
)
def test_a_line_of_another_form_or_with_wrong_numbers_is_named(
    tmp_path: Path, labels: str, yaml: str, where: int, words: str
) -> None:
    report = check(tmp_path, labels, yaml=yaml)
    assert ("labels/train/0.txt", where) == told(report)[0]
    assert words in report.problems[0].message


@pytest.mark.parametrize(
    ("labels", "yaml", "words"),
    [
        (BOX, "task: fly", "`task` must be one of detect, segment, classify, pose, obb, got 'fly'"),
        (BOX, "task: segment", "the labels are for detect, not for segment"),
        (TRIANGLE, "task: obb", "labels/train/0.txt:1 has an outline, not four corners"),
        (BOX, "task: pose", "there is no `kpt_shape: [keypoints, numbers of each]` in data.yaml"),
        (POINTS, "kpt_shape: 2", "`kpt_shape` must be [keypoints of each object, 2 or 3 numbers of each]"),
        (POINTS, "kpt_shape: [2, 4]", "`kpt_shape` must be"),
        (POINTS, "kpt_shape: [true, 3]", "`kpt_shape` must be"),
        (POINTS, "kpt_shape: [2, 3]\nflip_idx: [0, 2]", "`flip_idx` must hold each number from 0 to 1 once"),
        (POINTS, "kpt_shape: [2, 3]\nkpt_names: [a]", "`kpt_names` must be one list of 2 names"),
        (POINTS, "kpt_shape: [2, 3]\nkpt_names: {0: [a, b], 1: [b, a]}", "for every class the same"),
        (POINTS, "kpt_shape: [2, 3]\nkpt_names: [a, 1.5]", "the name of keypoint 1 is no text"),
    ],
)
def test_what_data_yaml_tells_wrongly_is_named(tmp_path: Path, labels: str, yaml: str, words: str) -> None:
    report = check(tmp_path, labels, yaml=yaml)
    assert told(report)[0] == ("data.yaml", 0)
    assert words in report.problems[0].message


def test_counts_are_by_class_and_leave_out_what_is_wrong(tmp_path: Path) -> None:
    report = check(tmp_path, f"{BOX}\n{BOX}\n9 0.5 0.5 0.1 0.1", "1 0.5 0.5 0.1 0.1", "")
    (split,) = report.splits
    assert (split.images, split.labelled_images, split.instances) == (3, 3, 4)
    assert split.class_instances == (2, 1)
