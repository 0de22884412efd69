"""The layout for classification: {split}/{class}/… with images; the folder's name is the class.

Class ids go by the sorted names of the folders in train. `valid` is taken for `val`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from visionmesh.datasets.images import images_below, refused_images
from visionmesh.datasets.report import SERVES, SPLIT_FOLDERS, SPLITS, DatasetReport, SplitReport, split_of


def is_laid_out(folder: Path) -> bool:
    """Whether `folder` looks like this layout: a split with folders that are not those of YOLO."""
    return any(
        class_folder.name not in {"images", "labels"}
        for split in SPLITS
        for place in _places(folder, split)
        for class_folder in _folders(place)
    )


def check_folder(folder: Path, *, open_images: bool = False) -> DatasetReport:
    """Count the images of each class, and with `open_images` read the header of every image."""
    report = DatasetReport(tasks=SERVES["classify"])
    report.class_names = class_names(folder)
    if len(report.class_names) < 2:
        text = "there must be at least two classes, each a folder of images below the split"
        report.add_problem("train", 0, text)
    for split in SPLITS:
        places = _places(folder, split)
        if not places:
            continue
        for second in (place for place in places[1:] if images_below(place)):
            text = f"split {split!r} is already in {places[0].name}; move these classes there"
            report.add_problem(second.name, 0, text)
        counts = _check_split(places[0], folder, report)
        images = sum(counts.values())
        if open_images:
            for image, problem in refused_images(places[0]):
                report.add_problem(_shown(image, folder), 0, problem)
        if images:
            per_class = tuple(counts[name] for name in report.class_names)
            report.splits.append(SplitReport(split, images, images, images, per_class))
    return report


def class_names(folder: Path) -> list[str]:
    """Class names by class id: those in train, or in the first split that there is."""
    found = next((places[0] for split in SPLITS if (places := _places(folder, split))), None)
    return [] if found is None else [path.name for path in _folders(found)]


def labelled_images(folder: Path, split: str, task: str = "") -> Iterator[tuple[Path, str, str]]:
    """(image, its path within the split, its class id as a line) by class and path; `task` is classify."""
    for place in _places(folder, split)[:1]:
        ids = {name: number for number, name in enumerate(class_names(folder))}
        for class_folder in _folders(place):
            for image in images_below(class_folder):
                yield image, image.relative_to(place).as_posix(), f"{ids[class_folder.name]}\n"


def standard_paths(folder: Path) -> Mapping[str, str]:
    """Where each file belongs: valid/cat/a.jpg becomes val/cat/a.jpg."""
    places = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        first, *rest = path.relative_to(folder).parts
        places[_shown(path, folder)] = "/".join([split_of(first) or first, *rest])
    return places


def _check_split(place: Path, folder: Path, report: DatasetReport) -> Counter[str]:
    """Note what is wrong with a split; its images by class."""
    known, counts = set(report.class_names), Counter[str]()
    for class_folder in _folders(place):
        images = len(images_below(class_folder))
        counts[class_folder.name] = images
        if class_folder.name not in known:
            text = "this class is not in train; add it there, or remove it here"
            report.add_problem(_shown(class_folder, folder), 0, text)
        elif not images:
            text = "there is no image of this class; add some, or remove the folder from every split"
            report.add_problem(_shown(class_folder, folder), 0, text)
    for path in sorted(place.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            text = "it lies beside the folders of the classes; move it into that of its class"
            report.add_problem(_shown(path, folder), 0, text)
    return counts


def _places(folder: Path, split: str) -> list[Path]:
    return [folder / name for name in SPLIT_FOLDERS[split] if (folder / name).is_dir()]


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
