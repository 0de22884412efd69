"""ultralytics' trainers, with the best epoch chosen by the job's primary metric."""

import csv
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import WorldModel

from runners.ultralytics.metrics import canonical

Callbacks = dict[str, list[Callable[[Any], None]]]
"""Functions by ultralytics' event names; each gets the trainer or validator."""


class Training(BaseTrainer):  # type: ignore[misc] # ultralytics has no types
    """One training, of whatever task: to be mixed with ultralytics' trainer for it.

    Not called a trainer: to classes of such names ultralytics attaches its own reporting.
    """

    def __init__(
        self,
        overrides: dict[str, Any],
        callbacks: Callbacks,
        *,
        score: Callable[[Mapping[str, float]], float],
        bn_momentum: float | None,
    ) -> None:
        """`score` turns canonical metrics into a number of which more is better."""
        self._score = score
        self._bn_momentum = bn_momentum
        self.best_fitness: float | None = None
        super().__init__(overrides=overrides, _callbacks=callbacks)

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Called at the end of set-up, resuming or not: the place for what a checkpoint does not keep."""
        super().resume_training(ckpt)
        if self._bn_momentum is not None:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = self._bn_momentum

    def validate(self) -> tuple[dict[str, float], float]:
        """Measure on the validation split; the second value decides on best checkpoint and early stop."""
        measured: dict[str, float] = self.validator(self)
        measured.pop("fitness", None)
        fitness = self._score(self.epoch_metrics(measured))
        if self.best_fitness is None or math.isnan(self.best_fitness) or fitness > self.best_fitness:
            self.best_fitness = fitness
        return measured, fitness

    def final_eval(self) -> None:
        """Nothing: the best checkpoint is measured with a confusion matrix afterwards."""

    def read_results_csv(self) -> dict[str, list[float]]:
        """Columns of the results so far, for the checkpoint. ultralytics would start polars for it."""
        if not self.csv.exists():
            return {}
        with self.csv.open(newline="") as file:
            header, *rows = csv.reader(file)
        return {name.strip(): [float(row[column]) for row in rows] for column, name in enumerate(header)}

    def epoch_metrics(self, measured: Mapping[str, float] | None = None) -> dict[str, float]:
        """Canonical metrics of the epoch: its mean training losses, and what validation measured."""
        losses = self.label_loss_items(self.tloss) if self.tloss else {}
        return canonical({**losses, **(self.metrics if measured is None else measured)})

    def mean_loss(self) -> float:
        """Mean training loss of the epoch so far, all parts together. Waits for the GPU."""
        return sum(float(part) for part in self.tloss.values()) if self.tloss else 0.0

    def close(self) -> None:
        """End the processes that load data."""
        for name in ("train_loader", "test_loader"):
            loader = getattr(self, name, None)
            if loader is not None and hasattr(loader, "close"):
                loader.close()


class _Detecting(Training, DetectionTrainer):  # type: ignore[misc] # as above, and below
    """Boxes."""


class _Segmenting(Training, SegmentationTrainer):  # type: ignore[misc]
    """Masks."""


class _Classifying(Training, ClassificationTrainer):  # type: ignore[misc]
    """Classes of whole images."""


class _Posing(Training, PoseTrainer):  # type: ignore[misc]
    """Keypoints."""


class _Turning(Training, OBBTrainer):  # type: ignore[misc]
    """Turned boxes."""


class _Querying(Training, RTDETRTrainer):  # type: ignore[misc]
    """Boxes by RT-DETR."""


class _FixedVocabulary(Training, DetectionTrainer):  # type: ignore[misc]
    """Boxes by YOLO-World, whose classes are vectors.

    ultralytics' trainer asks a text encoder for them, which is not to be had here: they are drawn by the
    seed, or taken from the checkpoint where that has as many classes, and stay as they are.
    """

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        model: nn.Module = self.set_model_names_for_load(
            WorldModel(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose)
        )
        if weights is not None:
            model.load(weights)
            known = getattr(weights, "txt_feats", None)
            if known is not None and known.shape[1] == self.data["nc"]:
                model.txt_feats = known.detach().clone()
        return model

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        vectors: torch.Tensor = self.model.txt_feats
        batch["txt_feats"] = vectors.to(self.device).expand(len(batch["img"]), -1, -1)
        return batch


TRAININGS: dict[tuple[str, str], type[Training]] = {
    ("yolo", "detect"): _Detecting,
    ("yolo", "segment"): _Segmenting,
    ("yolo", "classify"): _Classifying,
    ("yolo", "pose"): _Posing,
    ("yolo", "obb"): _Turning,
    ("rtdetr", "detect"): _Querying,
    ("world", "detect"): _FixedVocabulary,
}
"""By family and task."""
