"""The YOLO layout: images/{split}/…, labels/{split}/… with one text file per image, and the class names.

A label file holds one object per line, in the form of its task: see `_yolo_lines`. All lines of a dataset
have one form, and it tells the task; `task` in data.yaml says it where four corners leave it open. Class
names come from the `names` of data.yaml, or one per line from classes.txt. The form {split}/images,
{split}/labels is read too, and `valid` is taken for `val`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from visionmesh.datasets import _data_yaml, _yolo_lines
from visionmesh.datasets.images import images_below, refused_images
from visionmesh.datasets.report import SERVES, SPLIT_FOLDERS, SPLITS, DatasetReport, SplitReport, split_of

_MAX_LABEL_BYTES = 16 * 2**20  # a line has about 40 bytes: some 400,000 objects in one image


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Read every label below `folder`, and with `open_images` the header of every image."""
    report = DatasetReport()
    told = _told(folder, report)
    report.class_names = list(told.class_names)
    report.keypoint_shape, report.keypoint_names = told.keypoint_shape, told.keypoint_names
    report.flip_indices = told.flip_indices
    form = _form(folder, told, report)
    for split in SPLITS:
        _refuse_second_folders(folder, split, report)
        found = _check_split(folder, split, form, report)
        if open_images:
            _check_images(folder, split, report)
        if found is not None and found.images:
            report.splits.append(found)
    if not report.splits:
        text = "no images were found; put them into images/train, images/val and, if you like, images/test"
        report.add_problem("images", 0, text)
    return report


def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str | None]]:
    """(image, its path within the split, its labels if it has any) of a folder that was checked.

    The labels are the text of a YOLO file for `task`, which is one of the report's; "" for its first.
    """
    place = _image_folder(folder, split)
    if place is None:
        return
    shape = _told(folder, DatasetReport()).keypoint_shape
    labels = _label_folder(place, folder)
    for image in images_below(place):
        inner = image.relative_to(place)
        label = labels / inner.with_suffix(".txt")
        text = label.read_text("utf-8", "replace") if label.is_file() else None
        yield image, inner.as_posix(), None if text is None else _yolo_lines.as_task(text, task, shape)


def standard_paths(folder: Path) -> Mapping[str, str]:
    """Where each file belongs in the first layout."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return {name: standard_path(name) for name in names}


def _told(folder: Path, report: DatasetReport) -> _data_yaml.Told:
    try:
        return _data_yaml.read(folder)
    except ValueError as error:
        file, _, message = str(error).partition(": ")
        report.add_problem(file, 0, message)
        return _data_yaml.Told(file, ())


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
        images = _image_folder(folder, split)
        for path in sorted(_label_folder(images, folder).rglob("*.txt")) if images else ():
            for number, line in _lines(path):
                form = _yolo_lines.form(len(line.split()))
                forms[form] += 1
                first.setdefault(form, f"{_shown(path, folder)}:{number}")
    return forms, first


def _image_folder(folder: Path, split: str) -> Path | None:
    return next(iter(_candidates(folder, split, "images")), None)


def _candidates(folder: Path, split: str, content: str) -> list[Path]:
    """Folders that may hold the `content` ("images" or "labels") of a split, the first one preferred."""
    names = SPLIT_FOLDERS.get(split, (split,))
    places = [place for name in names for place in (folder / content / name, folder / name / content)]
    return [place for place in places if place.is_dir()]


def _refuse_second_folders(folder: Path, split: str, report: DatasetReport) -> None:
    """Only one place is read for each split: what lies at another would be left out in silence."""
    images = _candidates(folder, split, "images")
    for place in images[1:]:
        if images_below(place):
            text = f"split {split!r} is already in {_shown(images[0], folder)}; move these images there"
            report.add_problem(_shown(place, folder), 0, text)
    read = [_label_folder(place, folder) for place in images]
    for place in _candidates(folder, split, "labels"):
        if place not in read and next(place.rglob("*.txt"), None) is not None:
            wanted = _shown(images[0], folder) if images else f"images/{split}"
            text = f"there are labels here, but no images for them; put the images into {wanted}"
            report.add_problem(_shown(place, folder), 0, text)


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _label_folder(images: Path, folder: Path) -> Path:
    """Where the labels of the images in `images` are: the last "images" of the path becomes "labels"."""
    parts = list(images.relative_to(folder).parts)
    at = len(parts) - 1 - parts[::-1].index("images")
    parts[at] = "labels"
    return folder.joinpath(*parts)


def standard_path(path: str) -> str:
    """Where a file belongs in the first layout: valid/labels/a.txt becomes labels/val/a.txt."""
    parts = list(PurePosixPath(path).parts)
    if len(parts) > 2 and split_of(parts[0]) and parts[1] in {"images", "labels"}:
        parts[0], parts[1] = parts[1], parts[0]
    if len(parts) > 2 and parts[0] in {"images", "labels"}:
        parts[1] = split_of(parts[1]) or parts[1]
    return "/".join(parts)


def _check_split(folder: Path, split: str, form: str, report: DatasetReport) -> SplitReport | None:
    images_folder = _image_folder(folder, split)
    if images_folder is None:
        return None
    images = images_below(images_folder)
    labels_folder = _label_folder(images_folder, folder)
    expected: dict[Path, Path] = {}
    for image in images:
        label = labels_folder / image.relative_to(images_folder).with_suffix(".txt")
        if label in expected:
            text = f"it shares the label file of {expected[label].name}; give one of the two another name"
            report.add_problem(_shown(image, folder), 0, text)
        expected.setdefault(label, image)
    labelled, found = 0, Counter[int]()
    for path in sorted(labels_folder.rglob("*.txt")):
        name = _shown(path, folder)
        if path not in expected:
            where = _shown(images_folder, folder)
            report.add_problem(name, 0, f"there is no image for it in {where}; add one, or remove the labels")
            continue
        labelled += 1
        found += _check_labels(path, name, form, report)
    counts = tuple(found[class_id] for class_id in range(len(report.class_names)))
    return SplitReport(split, len(images), labelled, found.total(), counts)


def _check_images(folder: Path, split: str, report: DatasetReport) -> None:
    place = _image_folder(folder, split)
    if place is not None:
        for image, problem in refused_images(place):
            report.add_problem(_shown(image, folder), 0, problem)


def _check_labels(path: Path, name: str, form: str, report: DatasetReport) -> Counter[int]:
    """Check one label file; how many objects of each class it holds, -1 for one that is not known."""
    if path.stat().st_size > _MAX_LABEL_BYTES:
        report.add_problem(name, 0, f"it is no label file: it has more than {_MAX_LABEL_BYTES} bytes")
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
    if path.stat().st_size > _MAX_LABEL_BYTES:
        return
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
        if line.strip():
            yield number, line
