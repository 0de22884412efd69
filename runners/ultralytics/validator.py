"""ultralytics' detection validator, with a confusion matrix at thresholds of our own.

Its own matrix stays empty without plots, and otherwise counts every box above confidence 0.001.
"""

from typing import Any

from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils.metrics import ConfusionMatrix

from runners.ultralytics.trainer import Callbacks


class Measuring(DetectionValidator):  # type: ignore[misc] # ultralytics has no types
    """Measures one checkpoint on one split."""

    def __init__(
        self, arguments: dict[str, Any], callbacks: Callbacks, *, confidence: float, iou: float
    ) -> None:
        """`confidence` and `iou` are those from which a box counts and matches in the matrix."""
        self._confidence = confidence
        self._iou = iou
        self.matrix: Any = None
        super().__init__(args=arguments, _callbacks=callbacks)

    def init_metrics(self, model: Any) -> None:
        """Called before the first batch."""
        super().init_metrics(model)
        self.matrix = ConfusionMatrix(names=model.names)

    def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
        """Called with each batch and its boxes, all confidences included."""
        super().update_metrics(preds, batch)
        for index, found in enumerate(preds):
            truth = self._prepare_batch(index, batch)
            self.matrix.process_batch(found, truth, conf=self._confidence, iou_thres=self._iou)
