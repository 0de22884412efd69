"""A detector that is ready to look at images."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from ultralytics.models.yolo.detect import DetectionPredictor

from runners.ultralytics.checkpoints import Checkpoint
from visionmesh.v1 import result_pb2


class Detector:
    """Predicts with one checkpoint. Not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, arguments: dict[str, Any]) -> None:
        """`arguments` are ultralytics' own."""
        self._predictor = DetectionPredictor(overrides={"task": "detect", "mode": "predict", **arguments})
        self._predictor.setup_model(model=checkpoint.model, verbose=False)

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """What is in each image (height x width x 3, blue first), without index and URI; by index.

        What is found in an image does not depend on its neighbours: ultralytics pads differently when
        the shapes in a batch differ, so only images of one shape go together.
        """
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in images.items():
            groups[image.shape].append(index)
        predictions: dict[int, result_pb2.ImagePrediction] = {}
        for indices in groups.values():
            found = self._predictor(source=[images[index] for index in indices])
            predictions |= {index: _prediction(one) for index, one in zip(indices, found, strict=True)}
        return predictions


def _prediction(result: Any) -> result_pb2.ImagePrediction:
    height, width = result.orig_shape
    boxes = result.boxes.cpu().numpy()
    detections = [
        result_pb2.Detection(
            class_id=int(class_id),
            class_name=result.names[int(class_id)],
            confidence=float(confidence),
            box=result_pb2.BoundingBox(
                x_min=float(box[0]), y_min=float(box[1]), x_max=float(box[2]), y_max=float(box[3])
            ),
        )
        for box, confidence, class_id in zip(boxes.xyxy, boxes.conf, boxes.cls, strict=True)
    ]
    detections.sort(key=lambda detection: -detection.confidence)
    return result_pb2.ImagePrediction(
        width=width,
        height=height,
        detections=detections,
        timings=result_pb2.Timings(
            preprocess_ms=result.speed["preprocess"],
            inference_ms=result.speed["inference"],
            postprocess_ms=result.speed["postprocess"],
        ),
    )
