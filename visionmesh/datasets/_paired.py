"""Layouts with a file of labels beside each image: images/{split}/… and, say, labels/{split}/….

The form {split}/images, {split}/labels is read too, and `valid` is taken for `val`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visionmesh.datasets.images import images_below, refused_images
from visionmesh.datasets.report import SPLIT_FOLDERS, SPLITS, DatasetReport, split_of


@dataclass(frozen=True)
class PairedFolders:
    """Folders of images, and of the files that tell what they show."""

    kind: str
    """Name of the folders with labels."""

    suffix: str
    """Ending of the files in these."""

    def pairs(self, folder: Path, split: str) -> Iterator[tuple[Path, str, Path]]:
        """(image, its path within the split, its label file, which may be absent) by path."""
        place = self._images(folder, split)
        for image in images_below(place) if place else ():
            inner = image.relative_to(place).as_posix()  # type: ignore[arg-type] # there are no images without
            yield image, inner, (self._labels(image.parent, folder) / image.name).with_suffix(self.suffix)

    def label_files(self, folder: Path, split: str) -> list[Path]:
        """The label files of a split, by path."""
        place = self._images(folder, split)
        return sorted(self._labels(place, folder).rglob(f"*{self.suffix}")) if place else []

    def check(self, folder: Path, report: DatasetReport, *, open_images: bool) -> None:
        """Note what does not belong together, and with `open_images` which images are not read."""
        for split in SPLITS:
            self._refuse_second_folders(folder, split, report)
            self._check_pairs(folder, split, report)
            place = self._images(folder, split)
            for image, problem in refused_images(place) if open_images and place else ():
                report.add_problem(_shown(image, folder), 0, problem)
        if not any(next(self.pairs(folder, split), None) for split in SPLITS):
            text = (
                "no images were found; put them into images/train, images/val and, if you like, images/test"
            )
            report.add_problem("images", 0, text)

    def standard_paths(self, folder: Path) -> Mapping[str, str]:
        """Where each file belongs in the first form."""
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        return {name: self.standard_path(name) for name in names}

    def standard_path(self, path: str) -> str:
        """Where a file belongs in the first form: valid/labels/a.txt becomes labels/val/a.txt."""
        parts = list(PurePosixPath(path).parts)
        kinds = {"images", self.kind}
        if len(parts) > 2 and split_of(parts[0]) and parts[1] in kinds:
            parts[0], parts[1] = parts[1], parts[0]
        if len(parts) > 2 and parts[0] in kinds:
            parts[1] = split_of(parts[1]) or parts[1]
        return "/".join(parts)

    def _images(self, folder: Path, split: str) -> Path | None:
        return next(iter(_candidates(folder, split, "images")), None)

    def _labels(self, images: Path, folder: Path) -> Path:
        """Where the labels of the images in `images` are."""
        parts = list(images.relative_to(folder).parts)
        at = 0 if parts[0] == "images" else 1
        parts[at] = self.kind
        return folder.joinpath(*parts)

    def _refuse_second_folders(self, folder: Path, split: str, report: DatasetReport) -> None:
        """Only one place is read for each split: what lies at another would be left out in silence."""
        images = _candidates(folder, split, "images")
        for place in images[1:]:
            if images_below(place):
                text = f"split {split!r} is already in {_shown(images[0], folder)}; move these images there"
                report.add_problem(_shown(place, folder), 0, text)
        read = [self._labels(place, folder) for place in images]
        for place in _candidates(folder, split, self.kind):
            if place not in read and next(place.rglob(f"*{self.suffix}"), None) is not None:
                wanted = _shown(images[0], folder) if images else f"images/{split}"
                text = f"there are labels here, but no images for them; put the images into {wanted}"
                report.add_problem(_shown(place, folder), 0, text)

    def _check_pairs(self, folder: Path, split: str, report: DatasetReport) -> None:
        expected: dict[Path, Path] = {}
        for image, _, label in self.pairs(folder, split):
            if label in expected:
                text = f"it shares the label file of {expected[label].name}; give one of the two another name"
                report.add_problem(_shown(image, folder), 0, text)
            expected.setdefault(label, image)
        for path in self.label_files(folder, split):
            if path not in expected:
                where = _shown(self._images(folder, split) or folder, folder)
                text = f"there is no image for it in {where}; add one, or remove the labels"
                report.add_problem(_shown(path, folder), 0, text)


def _candidates(folder: Path, split: str, content: str) -> list[Path]:
    """Folders that may hold the `content` of a split, the first one preferred."""
    names = SPLIT_FOLDERS.get(split, (split,))
    places = [place for name in names for place in (folder / content / name, folder / name / content)]
    return [place for place in places if place.is_dir()]


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
