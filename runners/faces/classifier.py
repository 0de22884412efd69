"""Turns faces into vectors with an image classifier that timm has trained here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runners.timm import asking, classifier


class ClassifierVectors:
    """What the last layer before the classes sees: 512 numbers with a resnet18."""

    def __init__(self, path: Path | None, device: str, *, normalize: bool) -> None:
        """Raises UserError if the file is no such checkpoint."""
        found = classifier.restore(classifier.read(path))
        self.side: int = found.preprocessing.size
        """Width and height of the faces that it takes."""
        self._embedder = asking.Embedder(found, device, normalize)

    def vectors(self, faces: Sequence[np.ndarray]) -> list[Sequence[float]]:
        """A vector for each face (side x side x 3, blue first), of length 1 if that was asked for."""
        found = self._embedder.predict(dict(enumerate(faces)))
        return [found[number].embedding.values for number in range(len(faces))]
