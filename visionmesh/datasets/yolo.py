"""The YOLO layout: images/{split}/…, labels/{split}/… with one text file per image, and the class names.

A label file holds one object per line, in the form of its task: see `_yolo_lines`. All lines of a dataset
have one form, and it tells the task; `task` in data.yaml says it where four corners leave it open. Class
names come from the `names` of data.yaml, or one per line from classes.txt.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from visionmesh.datasets import _data_yaml, _yolo_lines
from visionmesh.datasets._paired import PairedFolders
from visionmesh.datasets.report import SERVES, SPLITS, DatasetReport, SplitReport

FOLDERS = PairedFolders("labels", ".txt")
MAX_LABEL_BYTES = 16 * 2**20  # a line has about 40 bytes: some 400,000 objects in one image


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Read every label below `folder`, and with `open_images` the header of every image."""
    report = DatasetReport()
    told = _data_yaml.told(folder, report)
    report.class_names = list(told.class_names)
    report.keypoint_shape, report.keypoint_names = told.keypoint_shape, told.keypoint_names
    report.flip_indices = told.flip_indices
    form = _form(folder, told, report)
    for split in SPLITS:
        _check_split(folder, split, form, report)
    FOLDERS.check(folder, report, open_images=open_images)
    return report


def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str | None]]:
    """(image, its path within the split, its labels if it has any) of a folder that was checked.

    The labels are the text of a YOLO file for `task`, which is one of the report's; "" for its first.
    """
    shape = _data_yaml.told(folder, DatasetReport()).keypoint_shape
    for image, inner, label in FOLDERS.pairs(folder, split):
        text = label.read_text("utf-8", "replace") if label.is_file() else None
        yield image, inner, None if text is None else _yolo_lines.as_task(text, task, shape)


def _form(folder: Path, told: _data_yaml.Told, report: DatasetReport) -> str:
    """The form that all lines should have; what it is good for goes to the report."""
    forms, first = _forms(folder)
    form = _yolo_lines.task_of(forms) or told.task or "detect"
    if told.keypoint_shape is not None:
        form = "pose"
    elif form == "pose":
        form = "detect"
    report.tasks = SERVES[form]
    report.lacking["pose"] = "there is no `kpt_shape: [keypoints, numbers of each]` in data.yaml"
    if "segment" in first:
        report.lacking["obb"] = f"{first['segment']} has an outline, not four corners"
    if told.task and (problem := report.prefer(told.task)) is not None:
        report.add_problem(told.file, 0, problem)
    return form


def _forms(folder: Path) -> tuple[Counter[str], dict[str, str]]:
    """How many lines have each form, and where the first is."""
    forms, first = Counter[str](), dict[str, str]()
    for split in SPLITS:
        for path in FOLDERS.label_files(folder, split):
            for number, line in _lines(path):
                form = _yolo_lines.form(len(line.split()))
                forms[form] += 1
                first.setdefault(form, f"{path.relative_to(folder).as_posix()}:{number}")
    return forms, first


def _check_split(folder: Path, split: str, form: str, report: DatasetReport) -> None:
    images = labelled = 0
    found = Counter[int]()
    for _, _, path in FOLDERS.pairs(folder, split):
        images += 1
        if path.is_file():
            labelled += 1
            found += _check_labels(path, path.relative_to(folder).as_posix(), form, report)
    if images:
        counts = tuple(found[class_id] for class_id in range(len(report.class_names)))
        report.splits.append(SplitReport(split, images, labelled, found.total(), counts))


def _check_labels(path: Path, name: str, form: str, report: DatasetReport) -> Counter[int]:
    """Check one label file; how many objects of each class it holds, -1 for one that is not known."""
    if path.stat().st_size > MAX_LABEL_BYTES:
        report.add_problem(name, 0, f"it is no label file: it has more than {MAX_LABEL_BYTES} bytes")
        return Counter()
    found, classes = Counter[int](), len(report.class_names)
    for number, line in _lines(path):
        wrong = list(_yolo_lines.problems(line, form, classes, report.keypoint_shape))
        for message in wrong:
            report.add_problem(name, number, message)
        if form == "classify" and found and not wrong:
            report.add_problem(name, number, "the image has a class already; leave one line")
        found[-1 if wrong else int(line.split(maxsplit=1)[0])] += 1
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a label file that are not empty, by their numbers from 1."""
    if path.stat().st_size > MAX_LABEL_BYTES:
        return
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if line.strip():
            yield number, line
