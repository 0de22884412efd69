"""Classifiers that look at images."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from runners.timm.classifier import Classifier
from visionmesh.v1 import result_pb2


class _Asked(ABC):
    """A classifier on a device, with its preprocessing."""

    def __init__(self, classifier: Classifier, device: str) -> None:
        self._device = device
        self._network = classifier.network.to(device).eval()
        self._transform = classifier.preprocessing.transform()

    def predict(self, images: Mapping[int, np.ndarray]) -> dict[int, result_pb2.ImagePrediction]:
        """What is in each image (height x width x 3, blue first), without index and URI; by index."""
        if not images:
            return {}
        began = time.perf_counter()
        pictures = [Image.fromarray(np.ascontiguousarray(image[..., ::-1])) for image in images.values()]
        batch = torch.stack([self._transform(picture) for picture in pictures]).to(self._device)
        prepared = time.perf_counter()
        with torch.inference_mode():
            found = self._look(batch).cpu()
        seen = time.perf_counter()
        predictions = [
            result_pb2.ImagePrediction(width=picture.width, height=picture.height) for picture in pictures
        ]
        for prediction, row in zip(predictions, found, strict=True):
            prediction.timings.preprocess_ms = 1000 * (prepared - began) / len(images)
            prediction.timings.inference_ms = 1000 * (seen - prepared) / len(images)
            self._tell(prediction, row)
        return dict(zip(images, predictions, strict=True))

    @abstractmethod
    def _look(self, batch: torch.Tensor) -> torch.Tensor:
        """What the network makes of images (batch x 3 x side x side): a row of 32-bit floats for each."""

    @abstractmethod
    def _tell(self, prediction: result_pb2.ImagePrediction, row: torch.Tensor) -> None:
        """Write a row down."""


class Namer(_Asked):
    """Names the likeliest classes."""

    def __init__(self, classifier: Classifier, device: str, top_k: int) -> None:
        super().__init__(classifier, device)
        self._names = classifier.class_names
        self._top_k = min(top_k, len(self._names))

    def _look(self, batch: torch.Tensor) -> torch.Tensor:
        shares: torch.Tensor = self._network(batch).float().softmax(dim=1)
        return shares

    def _tell(self, prediction: result_pb2.ImagePrediction, row: torch.Tensor) -> None:
        for confidence, number in zip(*row.topk(self._top_k), strict=True):
            class_id = int(number)
            prediction.classifications.add(
                class_id=class_id, class_name=self._names[class_id], confidence=float(confidence)
            )


class Embedder(_Asked):
    """Gives what the last layer before the classes sees, pooled, as a vector."""

    def __init__(self, classifier: Classifier, device: str, normalize: bool) -> None:
        super().__init__(classifier, device)
        self._normalize = normalize

    def _look(self, batch: torch.Tensor) -> torch.Tensor:
        features = self._network.forward_features(batch)
        vectors: torch.Tensor = self._network.forward_head(features, pre_logits=True).float()
        return torch.nn.functional.normalize(vectors) if self._normalize else vectors

    def _tell(self, prediction: result_pb2.ImagePrediction, row: torch.Tensor) -> None:
        prediction.embedding.values.extend(row.tolist())
