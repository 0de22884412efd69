"""A trained model that is ready to look at images."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Keypoints, Results
from ultralytics.models.rtdetr.predict import RTDETRPredictor
from ultralytics.models.yolo.classify import ClassificationPredictor
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.models.yolo.obb import OBBPredictor
from ultralytics.models.yolo.pose import PosePredictor
from ultralytics.models.yolo.segment import SegmentationPredictor

from runners.ultralytics.checkpoints import Checkpoint
from runners.vision import masks
from visionmesh.v1 import result_pb2

_PREDICTORS = {
    "detect": DetectionPredictor,
    "segment": SegmentationPredictor,
    "classify": ClassificationPredictor,
    "pose": PosePredictor,
    "obb": OBBPredictor,
}


def predictor_of(checkpoint: Checkpoint, arguments: dict[str, Any]) -> BasePredictor:
    """What ultralytics itself would predict with, for a checkpoint."""
    made = RTDETRPredictor if checkpoint.family == "rtdetr" else _PREDICTORS[checkpoint.task]
    predictor = made(overrides={"task": checkpoint.task, "mode": "predict", **arguments})
    predictor.setup_model(model=checkpoint.model, verbose=False)
    return predictor


def by_shape(images: Mapping[int, np.ndarray]) -> Iterable[list[int]]:
    """The indices of images that may go together into a batch: those of one shape."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, image in images.items():
        groups[image.shape].append(index)
    return groups.values()


class Finder:
    """Predicts with one checkpoint. Not for several threads at once."""

    def __init__(self, checkpoint: Checkpoint, arguments: dict[str, Any], top_k: int) -> None:
        """`arguments` are ultralytics' own; at most `top_k` classes are told of an image."""
        # Masks as large as the image, where ultralytics would leave them at the network's input size.
        self._predictor = predictor_of(checkpoint, {"retina_masks": True, **arguments})
        self._keypoint_names = checkpoint.keypoint_names
        self._top_k = top_k

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """What is in each image (height x width x 3, blue first), without index and URI; by index.

        What is found in an image does not depend on its neighbours: ultralytics pads differently when
        the shapes in a batch differ, so only images of one shape go together.
        """
        predictions: dict[int, result_pb2.ImagePrediction] = {}
        for indices in by_shape(images):
            found = self._predictor(source=[images[index] for index in indices])
            predictions |= {index: self._prediction(one) for index, one in zip(indices, found, strict=True)}
        return predictions

    def _prediction(self, result: Results) -> result_pb2.ImagePrediction:
        height, width = result.orig_shape
        detections = sorted(self._detections(result.cpu()), key=lambda detection: -detection.confidence)
        return result_pb2.ImagePrediction(
            width=width,
            height=height,
            detections=detections,
            classifications=_classifications(result, self._top_k),
            timings=result_pb2.Timings(
                preprocess_ms=result.speed["preprocess"],
                inference_ms=result.speed["inference"],
                postprocess_ms=result.speed["postprocess"],
            ),
        )

    def _detections(self, result: Results) -> Iterator[result_pb2.Detection]:
        boxes = result.boxes if result.obb is None else result.obb
        for row in range(0 if boxes is None else len(boxes)):
            class_id, box = int(boxes.cls[row]), boxes.xyxy[row].tolist()
            detection = result_pb2.Detection(
                class_id=class_id,
                class_name=result.names[class_id],
                confidence=float(boxes.conf[row]),
                box=result_pb2.BoundingBox(x_min=box[0], y_min=box[1], x_max=box[2], y_max=box[3]),
            )
            if result.obb is not None:
                x, y, width, height, angle = result.obb.xywhr[row].tolist()
                turned = result_pb2.OrientedBox(
                    x_center=x, y_center=y, width=width, height=height, angle=angle
                )
                detection.oriented_box.CopyFrom(turned)
            if result.masks is not None:
                mask = result.masks.data[row].numpy().astype(bool)
                detection.mask.CopyFrom(masks.encode(mask))
                detection.polygons.extend(masks.outlines(mask))
            if result.keypoints is not None:
                detection.keypoints.extend(_keypoints(result.keypoints[row], self._keypoint_names))
            yield detection


def _keypoints(found: Keypoints, names: tuple[str, ...]) -> Iterator[result_pb2.Keypoint]:
    """Of one object. A model that does not tell how sure it is counts as sure."""
    points = found.xy[0].tolist()
    confidences = [1.0] * len(points) if found.conf is None else found.conf[0].tolist()
    for number, ((x, y), confidence) in enumerate(zip(points, confidences, strict=True)):
        name = names[number] if number < len(names) else ""
        yield result_pb2.Keypoint(x=x, y=y, confidence=confidence, name=name)


def _classifications(result: Results, top_k: int) -> list[result_pb2.Classification]:
    if result.probs is None:
        return []
    likeliest = result.probs.data.sort(descending=True, stable=True)
    return [
        result_pb2.Classification(
            class_id=int(class_id), class_name=result.names[int(class_id)], confidence=float(confidence)
        )
        for confidence, class_id in zip(likeliest.values[:top_k], likeliest.indices[:top_k], strict=True)
    ]
