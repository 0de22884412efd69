"""Totals over all attempts of an inference: a later attempt knows only the images that it did itself."""

from collections.abc import AsyncIterator

from scheduler.store import history
from scheduler.store.engine import Connection
from visionmesh.inference_totals import InferenceTotals
from visionmesh.v1 import result_pb2

_PAGE = 1000


async def over_all_attempts(connection: Connection, job_id: str) -> result_pb2.InferenceResult:
    """What an attempt would say that had predicted every stored image."""
    totals = InferenceTotals()
    async for prediction in _stored(connection, job_id):
        totals.add(prediction)
    return totals.result()


async def _stored(connection: Connection, job_id: str) -> AsyncIterator[result_pb2.ImagePrediction]:
    page = await history.read_predictions(connection, job_id, -1, _PAGE)
    while page.items:
        for prediction in page.items:
            yield prediction
        page = await history.read_predictions(connection, job_id, page.items[-1].index, _PAGE)
