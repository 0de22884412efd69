"""Totals over all attempts of an inference: a later attempt knows only the images that it did itself."""

from collections import Counter
from collections.abc import AsyncIterator

from scheduler.store import history
from scheduler.store.engine import Connection
from visionmesh.v1 import result_pb2

_PAGE = 1000


async def over_all_attempts(
    connection: Connection, job_id: str, last: result_pb2.InferenceResult
) -> result_pb2.InferenceResult:
    """The totals that `last` would say if its attempt had predicted every stored image."""
    total = failed = 0
    milliseconds = 0.0
    per_class: Counter[str] = Counter()
    async for prediction in _stored(connection, job_id):
        total += 1
        failed += prediction.HasField("error")
        milliseconds += prediction.timings.inference_ms
        per_class.update(detection.class_name for detection in prediction.detections)
    return result_pb2.InferenceResult(
        total_images=total,
        failed_images=failed,
        total_inference_time_ms=milliseconds,
        avg_inference_time_ms=milliseconds / (total - failed) if total > failed else 0.0,
        detections_per_class=per_class,
        embedding_dimension=last.embedding_dimension,
    )


async def _stored(connection: Connection, job_id: str) -> AsyncIterator[result_pb2.ImagePrediction]:
    page = await history.read_predictions(connection, job_id, -1, _PAGE)
    while page.items:
        for prediction in page.items:
            yield prediction
        page = await history.read_predictions(connection, job_id, page.items[-1].index, _PAGE)
