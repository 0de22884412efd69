"""Images of class folders as batches of tensors."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch.utils.data import DataLoader, Dataset, Sampler

from runners.process.errors import UserError
from runners.pytorch.datasets import refuse_other_task, refuse_problems, refuse_unlabelled
from runners.pytorch.ranks import Ranks
from runners.vision import images
from visionmesh.datasets.kept import layout_of

Transform = Callable[[Image.Image], torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]
"""Images (batch x 3 x side x side) and class ids (batch)."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before the network sees it; a checkpoint keeps it."""

    size: int
    """Side of the square input in pixels."""

    mean: tuple[float, ...]
    """Of each channel, red first, in [0, 1]."""

    std: tuple[float, ...]
    """Of each channel."""

    interpolation: str
    """By timm's name."""

    crop_pct: float
    """Part of the shorter side that a central crop keeps."""

    @classmethod
    def of_model(cls, model: torch.nn.Module, size: int | None) -> "Preprocessing":
        """As the model was designed, at `size` or its own."""
        config = resolve_model_data_config(model)
        return cls(
            size or int(config["input_size"][-1]),
            tuple(config["mean"]),
            tuple(config["std"]),
            str(config["interpolation"]),
            float(config["crop_pct"]),
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Preprocessing":
        """What `as_dict` gave."""
        return cls(**{**told, "mean": tuple(told["mean"]), "std": tuple(told["std"])})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def transform(self) -> Transform:
        """For measuring and predicting."""
        made: Transform = create_transform(**self._arguments(), is_training=False, crop_pct=self.crop_pct)
        return made

    def augmentation(self, settings: Mapping[str, Any]) -> Transform:
        """For training, random; `settings` are the hyperparameters."""
        made: Transform = create_transform(
            **self._arguments(),
            is_training=True,
            scale=(settings["scale_min"], 1.0),
            hflip=settings["hflip"],
            vflip=settings["vflip"],
            color_jitter=settings["color_jitter"],
            auto_augment=settings["auto_augment"] or None,
            re_prob=settings["reprob"],
        )
        return made

    def _arguments(self) -> dict[str, Any]:
        return {
            "input_size": (3, self.size, self.size),
            "mean": self.mean,
            "std": self.std,
            "interpolation": self.interpolation,
        }


class LabelledImages(Dataset[tuple[torch.Tensor, int]]):  # type: ignore[misc] # torch is untyped here
    """One split of a dataset."""

    def __init__(self, found: Sequence[tuple[Path, int]], transform: Transform) -> None:
        self._found, self._transform = found, transform
        self.chance: int | None = None
        """Seeds what is random in the transform, for each image by itself; None: it is as it comes."""

    def part(self, rank: int, count: int) -> "LabelledImages":
        """Those images that process `rank` of `count` measures."""
        return LabelledImages(self._found[rank::count], self._transform)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self._found[index]
        try:
            picture = images.load(path)
        except images.UnreadableImage as error:
            raise UserError(f"{path.parent.name}/{error}", reason="DATASET_INVALID") from error
        if self.chance is None:
            return self._transform(picture), label
        with _own_chance(self.chance, index):
            return self._transform(picture), label


@contextmanager
def _own_chance(chance: int, index: int) -> Iterator[None]:
    """Random numbers of one image: the same whichever process reads it, and after whichever other."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    mixed = (chance * 1_000_003 + index) % 2**31
    random.seed(mixed)
    np.random.seed(mixed)
    torch.default_generator.manual_seed(mixed)  # torch.manual_seed would note the whole stack for GPUs
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


class Shares(Sampler[list[int]]):  # type: ignore[misc] # as above
    """What one of several processes has of each batch, in the order that `generator` gives to all."""

    def __init__(self, images: int, batch_size: int, generator: torch.Generator, ranks: Ranks) -> None:
        self._images, self._batch_size, self._ranks = images, batch_size, ranks
        self._generator = generator

    def __len__(self) -> int:
        return -(-self._images // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self._images, generator=self._generator).tolist()
        for start in range(0, self._images, self._batch_size):
            share, _ = self._ranks.share(order[start : start + self._batch_size])
            yield share


def check(folder: Path | None, splits: Sequence[str]) -> tuple[str, ...]:
    """The class names of a dataset in which every one of `splits` is there. Raises UserError."""
    if folder is None or not folder.is_dir():
        where = "not set" if folder is None else f"{str(folder)!r}, which is no folder"
        raise UserError(
            f"DATASET_PATH is {where}. Set it to a folder with train/CLASS and val/CLASS folders of images."
        )
    layout = layout_of(folder)
    report = layout.check(folder)
    refuse_problems(report)
    refuse_other_task(report, "classify")
    for split in splits:
        add = f"Add {split}/CLASS folders with images."
        refuse_unlabelled(report, split, add, add)
    return tuple(report.class_names)


def split(folder: Path, name: str, transform: Transform) -> LabelledImages:
    """One split of a dataset that was checked."""
    found = layout_of(folder).labelled_images(folder, name, "classify")
    return LabelledImages([(image, int(label)) for image, _, label in found if label], transform)


def loader(dataset: LabelledImages, batch_size: int, workers: int) -> "DataLoader[tuple[torch.Tensor, int]]":
    """Batches in order."""
    return DataLoader(dataset, batch_size, num_workers=workers)


def shuffled(
    dataset: LabelledImages, batch_size: int, workers: int, generator: torch.Generator, ranks: Ranks
) -> "DataLoader[tuple[torch.Tensor, int]]":
    """What this process has of batches that `generator` shuffles."""
    shares = Shares(len(dataset), batch_size, generator, ranks)
    return DataLoader(dataset, batch_sampler=shares, num_workers=workers)


def seed(number: int, epoch: int, rank: int = 0) -> torch.Generator:
    """Seed every generator for one epoch, each process's with others; the one that shuffles, alike in all.

    By the epoch, so that a training that is resumed goes on as if it had never stopped.
    """
    mixed = (number * 1_000_003 + epoch) % 2**31
    own = (mixed + rank * 7919) % 2**31
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)
    return torch.Generator().manual_seed(mixed)
