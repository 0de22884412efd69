"""Images with one JSON file each: what is understood, what is wrong, and by file and line."""

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_copies import as_coco, as_images_json, as_yolo
from PIL import Image

from visionmesh.datasets.formats import CLASS_FOLDERS, COCO, IMAGES_JSON, YOLO, Format, format_of
from visionmesh.datasets.report import SplitReport
from visionmesh.shapes import write_class_folders, write_shapes

CAT = {"label": "cat", "bbox": [10, 20, 30, 10]}
OUTLINE = [[10, 10], [50, 10], [50, 30]]
CORNERS = [[10, 10], [50, 10], [50, 30], [10, 30]]


def write(folder: Path, *files: Any, split: str = "train/", **more: str) -> Path:
    """Images of 100 x 50 pixels, each with a file: JSON, or text as it is."""
    for number, content in enumerate(files):
        image = folder / f"images/{split}{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(image)
        labels = folder / f"annotations/{split}{number}.json"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    for name, text in more.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def told(folder: Path) -> list[tuple[str, int, str]]:
    report = IMAGES_JSON.check(folder, open_images=True)
    return [(problem.file, problem.line, problem.message) for problem in report.problems]


def labels(folder: Path, layout: Format, split: str = "train", task: str = "") -> dict[str, str | None]:
    return {inner: text for _, inner, text in layout.labelled_images(folder, split, task)}


@pytest.mark.parametrize(
    "content",
    [
        {"objects": [CAT]},
        {"annotations": [CAT]},
        {"predicted_boxes": [CAT | {"confidence": 0.9, "class_id": 23}]},
        {"image_name": "0.png", "predictions": [{"class_name": "cat", "bbox": [10, 20, 30, 10]}]},
        {"objects": [{"label": "cat", "bbox": {"x": 10, "y": 20, "width": 30, "height": 10}}]},
        {"objects": [{"label": "cat", "x1": 10, "y1": 20, "x2": 40, "y2": 30}]},
        {
            "width": 100,
            "height": 50,
            "objects": [{"label": "cat", "polygon": [[10, 20], [40, 20], [40, 30]]}],
        },
    ],
)
def test_a_box_is_understood_however_it_is_told(tmp_path: Path, content: Any) -> None:
    write(tmp_path, content)
    assert format_of(tmp_path) is IMAGES_JSON
    assert told(tmp_path) == []
    line = "0 0.250000 0.500000 0.300000 0.200000\n"
    assert labels(tmp_path, IMAGES_JSON, task="detect") == {"0.png": line}


@pytest.mark.parametrize(
    ("entry", "tasks", "line"),
    [
        (
            {"polygon": OUTLINE},
            ("segment", "detect"),
            "0.100000 0.200000 0.500000 0.200000 0.500000 0.600000",
        ),
        (
            {"segmentation": [[10, 10, 50, 10, 50, 30]]},
            ("segment", "detect"),
            "0.100000 0.200000 0.500000 0.200000 0.500000 0.600000",
        ),
        (
            {"oriented_box": CORNERS},
            ("obb", "segment", "detect"),
            "0.100000 0.200000 0.500000 0.200000 0.500000 0.600000 0.100000 0.600000",
        ),
        (
            {"bbox": [10, 10, 20, 20], "keypoints": [[10, 10, 2], [0, 0, 0]]},
            ("pose", "detect"),
            "0.200000 0.400000 0.200000 0.400000 0.100000 0.200000 2 0.000000 0.000000 0",
        ),
    ],
)
def test_what_objects_have_tells_the_task(
    tmp_path: Path, entry: dict[str, Any], tasks: tuple[str, ...], line: str
) -> None:
    write(tmp_path, {"objects": [{"label": "cat"} | entry]}, {"objects": []})
    report = IMAGES_JSON.check(tmp_path, open_images=True)
    assert (report.problems, report.tasks) == ([], tasks)
    assert report.splits == [SplitReport("train", 2, 2, 1, (1,))]
    assert report.keypoint_shape == ((2, 3) if "pose" in tasks else None)
    assert labels(tmp_path, IMAGES_JSON) == {"0.png": f"0 {line}\n", "1.png": ""}


def test_a_label_for_the_image_as_a_whole_is_its_class(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"label": "dog"},
        {"class_name": "cat", "split": "train"},
        {"label": "dog", "split": "train"},
    )
    assert [line for _, line, _ in told(tmp_path)] == [1]  # one lacks its split
    write(tmp_path, {"label": "dog"}, {"class_id": 1}, classes_txt="cat\ndog\nbird")
    (tmp_path / "annotations/train/2.json").unlink()
    report = IMAGES_JSON.check(tmp_path)
    assert (report.problems, report.tasks) == ([], ("classify",))
    assert report.splits == [SplitReport("train", 3, 2, 2, (0, 2, 0))]
    assert labels(tmp_path, IMAGES_JSON) == {"0.png": "1\n", "1.png": "1\n", "2.png": None}


WRONG = {
    "no json": ('{\n"objects": [}', 2, "it is no JSON"),
    "a list": ("[1]", 0, "it must be an object"),
    "nothing": ({"a": 1}, 1, "it needs either `objects`, a list, or one `label`"),
    "both": ({"label": "cat", "objects": []}, 1, "it needs either"),
    "objects that are none": ({"objects": [1]}, 1, "`objects` must be a list of objects"),
    "no label": ({"objects": [CAT, {"bbox": [1, 2, 3, 4]}]}, 12, "object 2: it needs a `label`"),
    "no box": ({"objects": [CAT, {"label": "cat"}]}, 12, "object 2: it has a class alone, and other objects"),
    "box outside": ({"objects": [CAT | {"bbox": [90, 0, 20, 9]}]}, 3, "lies outside of the image of 100"),
    "box of text": ({"objects": [CAT | {"bbox": "0 0 1 1"}]}, 3, "bbox must be [x, y, width, height]"),
    "two points": ({"objects": [CAT | {"polygon": OUTLINE[:2]}]}, 3, "three points or more, got 2"),
    "a line": ({"objects": [CAT | {"polygon": [[1, 1], [2, 1], [3, 1]]}]}, 3, "all lie on one line"),
    "a point outside": ({"objects": [CAT | {"polygon": [*OUTLINE, [1, 52]]}]}, 3, "[1, 52] lies outside"),
    "five corners": ({"objects": [CAT | {"oriented_box": [*CORNERS, [1, 1]]}]}, 3, "must be 4 points, got 5"),
    "visible 3": ({"objects": [CAT | {"keypoints": [[1, 1, 3]]}]}, 3, "must be 0 (not labelled), 1"),
    "odd keypoints": ({"objects": [CAT | {"keypoints": [1, 1]}]}, 3, "must be a list of [x, y, visible]"),
    "other size": ({"width": 50, "height": 50, "objects": []}, 1, "has 100 x 50 pixels as it is shown"),
    "other image": ({"image": "b/9.png", "objects": []}, 1, "its image is 0.png"),
    "other split": ({"split": "val", "objects": []}, 1, "`split` is 'val', and the image is in train"),
    "no such split": ({"split": "all", "objects": []}, 1, "it must be train, val or test"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "line", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, line: int, words: str) -> None:
    write(tmp_path, content)
    found = [
        (where, message) for file, where, message in told(tmp_path) if file == "annotations/train/0.json"
    ]
    assert found, told(tmp_path)
    assert (found[0][0], words in found[0][1]) == (line, True), found


def test_names_of_classes_that_are_told_hold(tmp_path: Path) -> None:
    write(tmp_path, {"objects": [CAT]}, {"objects": [CAT | {"label": "wolf"}]}, classes_txt="dog\ncat")
    assert [(file, words[:37]) for file, _, words in told(tmp_path)] == [
        ("annotations/train/1.json", "object 1: there is no class 'wolf'; t")
    ]
    assert labels(tmp_path, IMAGES_JSON)["0.png"].startswith("1 ")  # type: ignore[union-attr]


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path, {"objects": [CAT]}, {"objects": [CAT | {"keypoints": [[1, 1, 2]]}]})
    (tmp_path / "annotations/train/7.json").write_text("{}")
    report = IMAGES_JSON.check(tmp_path)
    assert [(problem.file, problem.message[:27]) for problem in report.problems] == [
        ("annotations/train/7.json", "there is no image for it in")
    ]
    assert report.prefer("pose") == (
        "the labels are for detect, not for pose: annotations/train/0.json: object 1 has no keypoints"
    )


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_the_same_images_have_the_same_labels_in_each_layout(tmp_path: Path, task: str) -> None:
    write_shapes(tmp_path / "yolo", train=8, val=4, test=0, size=64, task=task)
    ours = YOLO.check(tmp_path / "yolo")
    copies = {IMAGES_JSON: as_images_json(tmp_path / "yolo", tmp_path / "json", 64)}
    if task != "obb":  # COCO has no oriented boxes
        copies[COCO] = as_coco(tmp_path / "yolo", tmp_path / "coco", 64)
    for layout, folder in copies.items():
        assert format_of(folder) is layout
        report = layout.check(folder, open_images=True)
        assert (report.problems, report.task) == ([], task)
        assert (report.class_names, report.splits) == (ours.class_names, ours.splits)
        assert report.keypoint_shape == ours.keypoint_shape
        for split in ("train", "val"):
            assert labels(folder, layout, split) == labels(tmp_path / "yolo", YOLO, split)


def test_the_same_images_have_the_same_classes_in_all_four_layouts(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "folders", train=9, val=6, test=0, size=32)
    ours = CLASS_FOLDERS.check(tmp_path / "folders")
    copies = {
        YOLO: as_yolo(tmp_path / "folders", tmp_path / "yolo"),
        COCO: as_coco(tmp_path / "folders", tmp_path / "coco", 32),
        IMAGES_JSON: as_images_json(tmp_path / "folders", tmp_path / "json", 32),
    }
    for layout, folder in copies.items():
        assert format_of(folder) is layout
        report = layout.check(folder, open_images=True)
        assert (report.problems, report.task) == ([], "classify")
        assert (report.class_names, report.splits) == (ours.class_names, ours.splits)
        for split in ("train", "val"):
            expected = labels(tmp_path / "folders", CLASS_FOLDERS, split)
            assert labels(folder, layout, split) == {
                name.replace("/", "_"): text for name, text in expected.items()
            }
