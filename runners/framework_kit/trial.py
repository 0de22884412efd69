"""The small jobs that a framework is given, and the data for them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionmesh import shapes
from visionmesh.datasets.formats import format_of
from visionmesh.datasets.images import images_below

_SIZE = 64
FIRST_INDEX = 2
"""Images below are done already, in the job that looks at images."""

BROKEN_INDEX = 4
"""Where the list has an image that cannot be read."""


class NoData(Exception):
    """The kit can make no images for that task."""


@dataclass(frozen=True)
class Trial:
    """What the jobs are like. The defaults suit a framework that learns quickly."""

    model: str = ""
    """To train, or to use without a checkpoint; the smallest of the manifest by default."""

    task: str = ""
    """The first of the model's or the manifest's by default."""

    epochs: int = 3
    """Of a training, at least 3: it is stopped in the second."""

    batch_size: int = 4
    """Images per step; there are 12 to train on where the kit makes the data."""

    image_size: int = 64
    """Side of the network's input in pixels."""

    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Of a training."""

    dataset: Path | None = None
    """A folder to learn from and to measure on; drawn shapes by default."""

    images: Path | None = None
    """A folder of at least 4 images to look at; drawn shapes by default."""

    checkpoint: Path | None = None
    """For measuring and looking; by default the best of the kit's own training."""

    embedding_checkpoint: Path | None = None
    """What turns faces into vectors, for embed_faces."""

    job_seconds: float = 300
    """A job that takes longer is killed, and fails."""


def write_dataset(trial: Trial, task: str, folder: Path) -> Path:
    """The dataset of the trial. Raises NoData."""
    if trial.dataset is not None:
        return trial.dataset.absolute()
    if task not in shapes.TASKS:
        raise NoData(f"The kit draws no images for {task or 'no task'}; name a dataset (--dataset FOLDER).")
    if task == "classify":
        shapes.write_class_folders(folder, train=12, val=6, test=6, size=_SIZE)
    else:
        shapes.write_shapes(folder, train=12, val=6, test=6, size=_SIZE, task=task)
    return folder


def write_images(trial: Trial, folder: Path) -> list[Path]:
    """At least 5 images in order; the one at BROKEN_INDEX cannot be read."""
    folder.mkdir(parents=True)
    if trial.images is None:
        shapes.write_shapes(folder / "drawn", train=6, val=0, test=0, size=_SIZE)
    found = images_below(trial.images or folder / "drawn" / "images")
    copies = [folder / f"{number:03}{path.suffix}" for number, path in enumerate(found)]
    for path, copy in zip(found, copies, strict=True):
        shutil.copyfile(path, copy)
    shutil.rmtree(folder / "drawn", ignore_errors=True)
    broken = folder / "broken.jpg"
    broken.write_bytes(b"this is no image")
    return [*copies[:BROKEN_INDEX], broken, *copies[BROKEN_INDEX:]]


def count(dataset: Path, split: str) -> int:
    """Images of a split."""
    report = format_of(dataset).check(dataset)
    return next((item.images for item in report.splits if item.name == split), 0)
