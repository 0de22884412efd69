"""Checkpoints: looked through before they are opened, loaded, and written whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils.torch_utils import strip_optimizer

from runners.process.errors import UserError
from runners.ultralytics import sam
from runners.ultralytics.models import TASKS
from runners.ultralytics.safety import refuse_unsafe, unusable

_FAMILIES = {"RTDETRDetectionModel": "rtdetr", "WorldModel": "world"}
"""By class of the model; the others are YOLO."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    path: Path
    """Where it lies, ending in .pt."""

    model: Any
    """The torch module, in 32 bits and evaluation mode."""

    content: Mapping[str, Any]
    """What else the file holds: epoch, optimizer, train_args, train_results, …."""

    task: str
    """detect, segment, classify, pose or obb."""

    family: str
    """As in models.Model: which of ultralytics' classes work with it."""

    @property
    def is_resumable(self) -> bool:
        """Whether optimizer and epoch are inside."""
        return self.content.get("optimizer") is not None and self.content.get("epoch", -1) >= 0

    @property
    def epochs_completed(self) -> int:
        """Epochs behind it; 0 if it does not say."""
        return int(self.content.get("epoch", -1)) + 1

    @property
    def image_size(self) -> int:
        """Side of the network input that it was trained with, or that its kind is made for."""
        size = (self.content.get("train_args") or {}).get("imgsz")
        if isinstance(size, int | float):
            return int(size)
        if self.family == "sam":
            return sam.IMAGE_SIZE
        return 224 if self.task == "classify" else 640

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class id."""
        names = getattr(self.model, "names", ())  # SAM knows none
        return tuple(names[index] for index in sorted(names)) if isinstance(names, dict) else tuple(names)

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """In order; empty where it has no names or no keypoints."""
        by_class = getattr(self.model, "kpt_names", None)
        names = tuple(str(name) for name in next(iter((by_class or {}).values()), ()))
        numbers = tuple(map(str, range(len(names))))  # which ultralytics gives to those without names
        return () if names == numbers else names

    def check_task(self, wanted: str | None) -> None:
        """Raise UserError if it is made for another task than the one that is wanted, if any is."""
        if wanted is not None and wanted != self.task:
            raise UserError(
                f"{self.path.name} is made for {self.task}, not for {wanted}. Leave the task out, or use a "
                f"checkpoint for {wanted}.",
                reason="UNSUPPORTED",
            )


def load(path: Path | None, work: Path) -> Checkpoint:
    """Load a checkpoint, having refused unopened what could execute code.

    Raises UserError if it is absent, or not one that can be used here.
    """
    if path is None or not path.is_file():
        where = "not set" if path is None else f"{str(path)!r}, which is no file"
        raise UserError(
            f"CHECKPOINT_PATH is {where}. Set it to a .pt file, such as the best.pt of a training.",
            reason="CHECKPOINT_NOT_FOUND",
        )
    refuse_unsafe(path)
    file = _with_suffix(path.absolute(), work)
    try:
        segment_anything = sam.load(file)
        if segment_anything is not None:
            return Checkpoint(file, segment_anything, {}, "segment", "sam")
        model, content = load_checkpoint(str(file))
    except (TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise unusable(path, str(error)) from error
    if model.task not in TASKS:
        raise unusable(path, f"it is made for {model.task}, and tasks here are {', '.join(TASKS)}")
    return Checkpoint(file, model, content, model.task, _FAMILIES.get(type(model).__name__, "yolo"))


def write_best(source: Path, target: Path) -> None:
    """Copy the checkpoint `source` without its optimizer; `target` is replaced at once."""
    scratch = target.with_name(f".{target.name}.new")
    strip_optimizer(source, s=str(scratch))
    os.replace(scratch, target)  # noqa: PTH105 - pairs with the line above


def write_copy(source: Path, target: Path) -> None:
    """Copy `source` as it is; `target` is replaced at once, so a reader sees the old or the new one."""
    scratch = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, scratch)
    os.replace(scratch, target)  # noqa: PTH105 - as above


def _with_suffix(path: Path, work: Path) -> Path:
    """`path`, or a link to it that ends in .pt: ultralytics goes by the name."""
    if path.suffix == ".pt":
        return path
    work.mkdir(parents=True, exist_ok=True)
    link = work / "checkpoint.pt"
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return link
