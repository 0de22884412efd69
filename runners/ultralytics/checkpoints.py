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
from runners.ultralytics.safety import refuse_unsafe, unusable


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    path: Path
    """Where it lies, ending in .pt."""

    model: Any
    """The torch module, in 32 bits and evaluation mode."""

    content: Mapping[str, Any]
    """What else the file holds: epoch, optimizer, train_args, train_results, …."""

    @property
    def is_resumable(self) -> bool:
        """Whether optimizer and epoch are inside."""
        return self.content.get("optimizer") is not None and self.content.get("epoch", -1) >= 0

    @property
    def epochs_completed(self) -> int:
        """Epochs behind it; 0 if it does not say."""
        return int(self.content.get("epoch", -1)) + 1

    @property
    def image_size(self) -> int | None:
        """Side of the network input that it was trained with; None if it does not say."""
        size = (self.content.get("train_args") or {}).get("imgsz")
        return int(size) if isinstance(size, int | float) else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class id."""
        names = self.model.names
        return tuple(names[index] for index in sorted(names)) if isinstance(names, dict) else tuple(names)


def load(path: Path | None, work: Path) -> Checkpoint:
    """Load a detector, having refused unopened what could execute code.

    Raises UserError if it is absent, not such a checkpoint, or made for another task.
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
        model, content = load_checkpoint(str(file))
    except (TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise unusable(path, str(error)) from error
    if model.task != "detect":
        raise UserError(f"{path.name} is made for {model.task}, not for detect. Use another checkpoint.")
    return Checkpoint(file, model, content)


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
