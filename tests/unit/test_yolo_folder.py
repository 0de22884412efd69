"""What is found in a YOLO folder, and what is found wrong with it."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionmesh.datasets import yolo
from visionmesh.datasets._yolo_lines import problems
from visionmesh.datasets.formats import YOLO
from visionmesh.datasets.report import MAX_PROBLEMS, DatasetReport, Problem, SplitReport
from visionmesh.shapes import CLASS_NAMES, write_shapes

GOOD = "0 0.5 0.5 0.2 0.2\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def dataset(folder: Path, label: str = GOOD, **more: str) -> Path:
    """One training image with a label, two classes, and files with / written as __."""
    files = {"images/train/a.jpg": "", "labels/train/a.txt": label, "data.yaml": "names: [cat, dog]\n"}
    return write(folder, files | {name.replace("__", "/"): text for name, text in more.items()})


def told(report: DatasetReport) -> list[tuple[str, int]]:
    return [(problem.file, problem.line) for problem in report.problems]


def test_what_the_demo_writes_is_right(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=4, val=2, test=1, size=32)
    report = yolo.check_folder(tmp_path)
    assert report.problems == []
    assert report.class_names == list(CLASS_NAMES)
    assert [(split.name, split.images, split.labelled_images) for split in report.splits] == [
        ("train", 4, 4),
        ("val", 2, 2),
        ("test", 1, 1),
    ]
    lines = sum(len(path.read_text().splitlines()) for path in (tmp_path / "labels/train").iterdir())
    assert report.splits[0].instances == lines > 0


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/val", "labels/val"),
        ("val/images", "val/labels"),
        ("valid/images", "valid/labels"),
        ("images/valid", "labels/valid"),
    ],
)
def test_both_layouts_and_both_names_of_val(tmp_path: Path, images: str, labels: str) -> None:
    write(
        tmp_path,
        {
            f"{images}/b.PNG": "",
            f"{images}/deep/a.jpeg": "",
            f"{images}/unlabelled.webp": "",
            f"{images}/notes.md": "",
            f"{labels}/b.txt": "",
            f"{labels}/deep/a.txt": GOOD * 2,
            "classes.txt": "cat\n\n dog \n",
        },
    )
    report = yolo.check_folder(tmp_path)
    assert report == DatasetReport(["cat", "dog"], splits=[SplitReport("val", 3, 2, 2, (2, 0))])
    base = tmp_path / images
    found = [image for image, _, _ in yolo.labelled_images(tmp_path, "val")]
    assert found == [base / "b.PNG", base / "deep/a.jpeg", base / "unlabelled.webp"]
    assert list(yolo.labelled_images(tmp_path, "train")) == []


@pytest.mark.parametrize(
    ("path", "standard"),
    [
        ("valid/images/a.jpg", "images/val/a.jpg"),
        ("train/labels/x/a.txt", "labels/train/x/a.txt"),
        ("labels/valid/a.txt", "labels/val/a.txt"),
        ("images/test/a.jpg", "images/test/a.jpg"),
        ("images/a.jpg", "images/a.jpg"),
        ("data.yaml", "data.yaml"),
        ("other/images/a.jpg", "other/images/a.jpg"),
    ],
)
def test_every_file_has_one_standard_path(path: str, standard: str) -> None:
    assert yolo.FOLDERS.standard_path(path) == standard
    assert yolo.FOLDERS.standard_path(standard) == standard


def test_standardize_changes_the_layout_and_nothing_that_is_reported(tmp_path: Path) -> None:
    files = {
        "valid/images/a.jpg": "",
        "valid/labels/a.txt": GOOD,
        "train/images/x/b.jpg": "",
        "classes.txt": "c",
    }
    write(tmp_path, files)
    before = yolo.check_folder(tmp_path)
    YOLO.standardize(tmp_path)
    assert yolo.check_folder(tmp_path) == before
    found = [image.relative_to(tmp_path).as_posix() for image, _, _ in yolo.labelled_images(tmp_path, "val")]
    assert found == ["images/val/a.jpg"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "expected `class x_center y_center width height`, got 4 fields"),
        ("0 0.5 0.5 0.2 0.2 0.9", "got 6 fields"),
        ("2 0.5 0.5 0.2 0.2", "class 2 does not exist; there are 2 classes, 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "whole number from 0, got '-1'"),
        ("1.0 0.5 0.5 0.2 0.2", "whole number from 0, got '1.0'"),
        ("٣ 0.5 0.5 0.2 0.2", "whole number from 0"),
        ("9" * 5000 + " 0.5 0.5 0.2 0.2", "whole number from 0"),
        ("cat 0.5 0.5 0.2 0.2", "whole number from 0, got 'cat'"),
        ("0 nan 0.5 0.2 0.2", "x_center must be a finite number, got 'nan'"),
        ("0 0.5 inf 0.2 0.2", "y_center must be a finite number, got 'inf'"),
        ("0 0.5 1e999 0.2 0.2", "y_center must be a finite number"),
        ("0 0.5 0_0.5 0.2 0.2", "y_center must be a finite number, got '0_0.5'"),
        ("0 0.5 0.5 x 0.2", "width must be a finite number, got 'x'"),
        ("0 48 0.5 0.2 0.2", "x_center must be a share of the image from 0 to 1, got 48 (pixels?)"),
        ("0 0.5 -0.1 0.2 0.2", "y_center must be a share of the image from 0 to 1, got -0.1"),
        ("0 0.5 0.5 0 0.2", "width must be above 0"),
        ("0 0.5 0.5 0.2 0.0", "height must be above 0"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    report = yolo.check_folder(dataset(tmp_path, f"{GOOD}\n{line}\n{GOOD}"))
    assert told(report) == [("labels/train/a.txt", 3)]
    assert words in report.problems[0].message
    assert len(report.problems[0].message) < 150
    assert report.problem_count == 1


def test_each_wrong_number_of_a_line_is_told(tmp_path: Path) -> None:
    report = yolo.check_folder(dataset(tmp_path, "7 2 2 0 0"))
    assert told(report) == [("labels/train/a.txt", 1)] * 5


def test_bounds_belong_to_the_range(tmp_path: Path) -> None:
    assert yolo.check_folder(dataset(tmp_path, "1 0 1 1 1e-3\n0 .5 1. 1 1\r\n")).problems == []


@pytest.mark.parametrize(
    ("files", "file", "words"),
    [
        ({"labels__train__b.txt": GOOD}, "labels/train/b.txt", "no image for it in images/train"),
        ({"labels__val__b.txt": GOOD}, "labels/val", "put the images into images/val"),
        ({"images__train__a.png": ""}, "images/train/a.png", "shares the label file of a.jpg"),
        ({"train__images__b.jpg": ""}, "train/images", "already in images/train"),
        ({"train__labels__a.txt": GOOD}, "train/labels", "images into images/train"),
        ({"labels__train__a.txt": GOOD * 1_000_000}, "labels/train/a.txt", "no label file"),
    ],
)
def test_files_that_do_not_belong_together(
    tmp_path: Path, files: dict[str, str], file: str, words: str
) -> None:
    report = yolo.check_folder(dataset(tmp_path, GOOD, **files))
    assert told(report) == [(file, 0)]
    assert words in report.problems[0].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\n", "lacks `names`"),
        ("names: []\n", "lacks `names`"),
        ("names: cat\n", "lacks `names`"),
        ("- cat\n", "lacks `names`"),
        ("", "lacks `names`"),
        ("names: {1: cat, 2: dog}\n", "without a gap"),
        ("names: {0: cat, dog: 1}\n", "without a gap"),
        ("names: {false: cat, true: dog}\n", "without a gap"),
        ("names: [cat, [dog]]\n", "class 1 is no text"),
        ("names: [yes, no]\n", "class 0 is no text but 'True'; put it into quotes"),
        ("names: [1.5]\n", "quotes"),
        ("names: [null]\n", "quotes"),
        ("names: ['', dog]\n", "class 0 is empty or not printable"),
        ('names: ["a\\nb"]\n', "class 0 is empty or not printable"),
        ("names: [cat\ntrain: x\n", "not YAML: expected ',' or ']', but got ':' (line 2)"),
        ("a: b: c\n", "not YAML: mapping values are not allowed here (line 1)"),
        ("names: \0\n", "not YAML"),
        ("x: !!python/object/apply:os.system [true]\nnames: [a]\n", "not YAML: could not determine"),
        ("x: 2026-13-45\nnames: [a]\n", "not YAML (ValueError)"),
        ("[" * 5000, "not YAML (RecursionError)"),
        ("names: [" + "a" * 2**20 + "]", "more than 1048576 bytes"),
    ],
)
def test_a_broken_data_yaml_is_told_with_what_would_be_right(tmp_path: Path, text: str, words: str) -> None:
    report = yolo.check_folder(dataset(tmp_path, GOOD, **{"data.yaml": text}))
    assert told(report) == [("data.yaml", 0)]
    assert words in report.problems[0].message
    assert report.class_names == []


def test_an_unknown_number_of_classes_does_not_hide_broken_lines(tmp_path: Path) -> None:
    report = yolo.check_folder(dataset(tmp_path, "7 0.5 0.5 0.2 9", **{"data.yaml": "names: 1"}))
    assert told(report) == [("data.yaml", 0), ("labels/train/a.txt", 1)]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"data.yaml": "names:\n  1: dog\n  0: cat\n"}, ["cat", "dog"]),
        ({"data.yaml": "names: [7, 'yes', Grün]\ndownload: 'rm -rf /'\n"}, ["7", "yes", "Grün"]),
        ({"data.yml": "names: [a]\n"}, ["a"]),
        ({"classes.txt": "\ufeffcat\ndog"}, ["cat", "dog"]),
        ({"data.yaml": "names: [a]\n", "classes.txt": "b"}, ["a"]),
    ],
)
def test_class_names_by_class_id(tmp_path: Path, files: dict[str, str], names: list[str]) -> None:
    assert yolo.check_folder(write(tmp_path, files)).class_names == names


def test_a_bomb_of_aliases_costs_nothing(tmp_path: Path) -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 9)]
    report = yolo.check_folder(dataset(tmp_path, GOOD, **{"data.yaml": "\n".join([*lines, "names: [cat]"])}))
    assert report.problems == []


@pytest.mark.parametrize(
    "files", [{}, {"images/a.jpg": "", "labels/a.txt": GOOD}, {"images/train/a.gif": ""}]
)
def test_no_images_says_where_they_belong(tmp_path: Path, files: dict[str, str]) -> None:
    report = yolo.check_folder(write(tmp_path, {"classes.txt": "cat"} | files))
    assert report.splits == []
    assert [problem for problem in report.problems if "put them into images/train" in problem.message]


def test_nothing_at_all_is_told_as_such(tmp_path: Path) -> None:
    assert told(yolo.check_folder(tmp_path / "absent")) == [("data.yaml", 0), ("images", 0)]


def test_a_dataset_without_labels_is_reported_not_refused(tmp_path: Path) -> None:
    write(tmp_path, {"images/train/a.jpg": "", "classes.txt": "cat"})
    assert yolo.check_folder(tmp_path) == DatasetReport(["cat"], splits=[SplitReport("train", 1, 0, 0, (0,))])


def test_the_list_of_problems_is_capped_and_counted_on(tmp_path: Path) -> None:
    report = yolo.check_folder(dataset(tmp_path, "9 0.5 0.5 0.2 0.2\n" * (MAX_PROBLEMS + 7)))
    assert len(report.problems) == MAX_PROBLEMS
    assert report.problem_count == MAX_PROBLEMS + 7
    assert report.problems[-1] == Problem(
        "labels/train/a.txt", MAX_PROBLEMS, "class 9 does not exist; there are 2 classes, 0 to 1"
    )


SHARES = st.floats(min_value=0, max_value=1).map(repr)
SIZES = st.floats(min_value=0, max_value=1, exclude_min=True).map(repr)


@given(st.integers(0, 1), SHARES, SHARES, SIZES, SIZES)
def test_every_box_in_range_is_right(class_id: int, x: str, y: str, width: str, height: str) -> None:
    assert list(problems(f"{class_id} {x} {y} {width} {height}", "detect", 2)) == []


@given(st.floats().filter(lambda value: not 0 <= value <= 1), st.integers(1, 4))
def test_every_number_out_of_range_is_told(value: float, at: int) -> None:
    fields = ["0", "0.5", "0.5", "0.5", "0.5"]
    fields[at] = repr(value)
    (message,) = problems(" ".join(fields), "detect", 1)
    assert message.startswith(("x_center", "y_center", "width", "height"))
    assert ("finite" in message) != math.isfinite(value)


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_no_line_can_do_more_than_be_refused(line: str) -> None:
    messages = list(problems(line, "detect", 3))
    assert all(messages)
    if not messages:
        fields = line.split()
        assert len(fields) == 5
        assert int(fields[0]) < 3
        assert all(0 <= float(text) <= 1 for text in fields[1:])


@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: b"names: " + text.encode(errors="replace"))
)
@settings(max_examples=300, deadline=None)
def test_no_bytes_in_data_yaml_can_do_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("data")
    (folder / "data.yaml").write_bytes(content)
    report = yolo.check_folder(folder)
    assert {problem.file for problem in report.problems} <= {"data.yaml", "images"}
    assert bool(report.class_names) != (("data.yaml", 0) in told(report))
    assert all(name.strip() and name.isprintable() for name in report.class_names)
