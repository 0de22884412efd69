"""Totals over all attempts of an inference: a later attempt knows only the images that it did itself."""

from collections import Counter

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from scheduler.store.schema import predictions
from visionmesh.v1 import result_pb2


async def over_all_attempts(
    connection: AsyncConnection, job_id: str, last: result_pb2.InferenceResult
) -> result_pb2.InferenceResult:
    """The totals that `last` would say if its attempt had predicted every stored image."""
    query = select(predictions.c.payload).where(predictions.c.job_id == job_id)
    total = failed = 0
    milliseconds = 0.0
    per_class: Counter[str] = Counter()
    async for (payload,) in await connection.stream(query):
        prediction = result_pb2.ImagePrediction.FromString(payload)
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
