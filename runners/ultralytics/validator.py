"""ultralytics' validators, with a confusion matrix at thresholds of our own.

Their own matrix of boxes stays empty without plots, and otherwise counts every box above confidence 0.001.
"""

from typing import Any

from ultralytics.engine.validator import BaseValidator
from ultralytics.models.rtdetr.val import RTDETRValidator
from ultralytics.models.yolo.classify import ClassificationValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.obb import OBBValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.utils.metrics import ConfusionMatrix

from runners.ultralytics.trainer import Callbacks


class Measuring(BaseValidator):  # type: ignore[misc] # ultralytics has no types
    """Measures one checkpoint on one split: to be mixed with ultralytics' validator for its task."""

    def __init__(
        self, arguments: dict[str, Any], callbacks: Callbacks, *, confidence: float, iou: float
    ) -> None:
        """`confidence` and `iou` are those from which a box counts and matches in the matrix."""
        self._confidence = confidence
        self._iou = iou
        super().__init__(args=arguments, _callbacks=callbacks)

    @property
    def matrix(self) -> Any:
        """Counts (predicted x true) when all is measured."""
        return self.confusion_matrix.matrix


class _Boxes(Measuring):
    """Counts boxes, turned or not, that match."""

    _matched: Any = None

    @property
    def matrix(self) -> Any:
        return self._matched.matrix

    def init_metrics(self, model: Any) -> None:
        """Called before the first batch."""
        super().init_metrics(model)
        self._matched = ConfusionMatrix(names=model.names)

    def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        """Called with each batch and its boxes, all confidences included."""
        super().update_metrics(preds, batch)
        for index, found in enumerate(preds):
            truth = self._prepare_batch(index, batch)
            self._matched.process_batch(found, truth, conf=self._confidence, iou_thres=self._iou)


class _Detecting(_Boxes, DetectionValidator):  # type: ignore[misc] # as above, and below
    """Boxes."""


class _Segmenting(_Boxes, SegmentationValidator):  # type: ignore[misc]
    """Masks."""


class _Classifying(Measuring, ClassificationValidator):  # type: ignore[misc]
    """Classes of whole images."""


class _Posing(_Boxes, PoseValidator):  # type: ignore[misc]
    """Keypoints."""


class _Turning(_Boxes, OBBValidator):  # type: ignore[misc]
    """Turned boxes."""


class _Querying(_Boxes, RTDETRValidator):  # type: ignore[misc]
    """Boxes by RT-DETR."""


VALIDATORS: dict[tuple[str, str], type[Measuring]] = {
    ("yolo", "detect"): _Detecting,
    ("yolo", "segment"): _Segmenting,
    ("yolo", "classify"): _Classifying,
    ("yolo", "pose"): _Posing,
    ("yolo", "obb"): _Turning,
    ("rtdetr", "detect"): _Querying,
    ("world", "detect"): _Detecting,
}
"""By family and task."""
