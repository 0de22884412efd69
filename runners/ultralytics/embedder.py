"""A trained model that turns images into vectors."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from runners.ultralytics.checkpoints import Checkpoint
from runners.ultralytics.predictor import by_shape, predictor_of
from visionmesh.v1 import result_pb2


class Embedder:
    """Gives what the last layer before the head sees, averaged over the image: as ultralytics' own `embed`.

    That is 256 numbers with the n-size of YOLOv8, 11 and 26; more with larger ones.
    """

    def __init__(self, checkpoint: Checkpoint, arguments: dict[str, Any], *, normalize: bool) -> None:
        """`arguments` are ultralytics' own."""
        last = len(checkpoint.model.model) - 2
        self._predictor = predictor_of(checkpoint, {**arguments, "embed": [last]})
        self._normalize = normalize

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """The vector of each image (height x width x 3, blue first), without index and URI; by index."""
        predictions: dict[int, result_pb2.ImagePrediction] = {}
        for indices in by_shape(images):
            began = time.perf_counter()
            vectors = torch.stack(list(self._predictor(source=[images[index] for index in indices]))).float()
            if self._normalize:
                vectors = torch.nn.functional.normalize(vectors)
            rows = vectors.cpu().tolist()
            each_ms = 1000 * (time.perf_counter() - began) / len(indices)
            for index, row in zip(indices, rows, strict=True):
                height, width = images[index].shape[:2]
                prediction = result_pb2.ImagePrediction(width=width, height=height)
                prediction.embedding.values.extend(row)
                prediction.timings.inference_ms = each_ms
                predictions[index] = prediction
        return predictions
