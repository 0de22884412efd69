"""What docs/datasets.md shows as right is right."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from visionmesh.datasets import _yolo_lines
from visionmesh.datasets.formats import COCO, IMAGES_JSON, format_of

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text("utf-8")
COCO_BLOCK, *JSON_BLOCKS = re.findall("```json\n(.*?)```", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| (\w+) \| [^|]* \| `([0-9. ]+)` \|$", PAGE, re.MULTILINE)


def picture(folder: Path) -> None:
    folder.mkdir(parents=True)
    Image.new("RGB", (640, 480)).save(folder / "0.jpg")


@pytest.mark.parametrize(("task", "line"), ROWS)
def test_lines_for_yolo(task: str, line: str) -> None:
    assert list(_yolo_lines.problems(line, task, 1, (2, 3))) == []


def test_every_task_has_its_line() -> None:
    assert [task for task, _ in ROWS] == ["detect", "segment", "obb", "pose", "classify"]


def test_the_listing_of_coco(tmp_path: Path) -> None:
    picture(tmp_path / "images/train")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(COCO_BLOCK)
    assert format_of(tmp_path) is COCO
    report = COCO.check(tmp_path, open_images=True)
    assert (report.problems, report.task) == ([], "segment")


@pytest.mark.parametrize(
    ("block", "task"), [*zip(JSON_BLOCKS, ["detect", "segment", "pose", "obb", "classify"], strict=True)]
)
def test_files_beside_images(tmp_path: Path, block: str, task: str) -> None:
    picture(tmp_path / "images/train")
    (tmp_path / "annotations/train").mkdir(parents=True)
    (tmp_path / "annotations/train/0.json").write_text(block)
    assert format_of(tmp_path) is IMAGES_JSON
    report = IMAGES_JSON.check(tmp_path, open_images=True)
    assert (report.problems, report.task) == ([], task)
    assert json.loads(block)
