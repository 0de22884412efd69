"""What the predictions of an inference, embedding or face job come to."""

from collections import Counter

from visionmesh.v1 import result_pb2

FACE = "face"
"""What a face counts as."""


class InferenceTotals:
    """Adds up predictions, whoever made them: one attempt its own, the scheduler those of all attempts."""

    def __init__(self) -> None:
        self.images = 0
        """Images dealt with, errors included."""
        self.failed = 0
        """Those that ended as an error entry."""
        self._milliseconds = 0.0
        self._found: Counter[str] = Counter()
        self._dimension = 0

    def add(self, prediction: result_pb2.ImagePrediction) -> None:
        """Count one more image."""
        self.images += 1
        self.failed += prediction.HasField("error")
        self._milliseconds += prediction.timings.inference_ms
        self._found.update(detection.class_name for detection in prediction.detections)
        self._found.update(FACE for _ in prediction.faces)
        vectors = (prediction.embedding, *(face.embedding for face in prediction.faces))
        self._dimension = max(self._dimension, *(vector.dimension for vector in vectors))

    def result(self) -> result_pb2.InferenceResult:
        """The totals so far."""
        predicted = self.images - self.failed
        return result_pb2.InferenceResult(
            total_images=self.images,
            failed_images=self.failed,
            total_inference_time_ms=self._milliseconds,
            avg_inference_time_ms=self._milliseconds / predicted if predicted else 0.0,
            detections_per_class=self._found,
            embedding_dimension=self._dimension,
        )
