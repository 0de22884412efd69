"""What is stored of a job, as a client can read it."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from visionmesh import errors
from visionmesh.client import TERMINAL_STATES, AsyncJobHandle
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """What an audit needs to know of a prediction: masks and vectors may be large."""

    sequence: int
    index: int
    failed: bool
    classes: tuple[str, ...]
    """Of its detections."""
    overlay: str
    """The artifact with its overlay; empty if there is none."""


@dataclass(frozen=True)
class History:
    """Everything that is stored of a job that has ended."""

    job: job_pb2.Job
    events: Sequence[progress_pb2.JobEvent]
    predictions: Sequence[StoredPrediction] = ()
    epochs: Sequence[progress_pb2.EpochMetrics] = ()
    artifacts: Sequence[result_pb2.Artifact] = ()
    result: result_pb2.Result | None = None


async def read_history(handle: AsyncJobHandle) -> History:
    """Read all of a job that has ended.

    Raises MeshError: NOT_FOUND, or JOB_NOT_ENDED while its history is still being written.
    """
    job = await handle.get()
    if job.state not in TERMINAL_STATES:
        text = f"{job.name} has not ended: its history is still being written. Wait for it, or cancel it."
        raise errors.precondition(Reason.JOB_NOT_ENDED, text, job=job.name)
    return History(
        job,
        [event async for event in handle.events()],
        [_stored(sequence, prediction) async for sequence, prediction in handle.watch_predictions()],
        [epoch async for epoch in handle.metrics()],
        [artifact async for artifact in handle.artifacts()],
        await _result(handle),
    )


def _stored(sequence: int, prediction: result_pb2.ImagePrediction) -> StoredPrediction:
    classes = tuple(detection.class_name for detection in prediction.detections)
    failed = prediction.HasField("error")
    return StoredPrediction(sequence, prediction.index, failed, classes, prediction.overlay_artifact)


async def _result(handle: AsyncJobHandle) -> result_pb2.Result | None:
    try:
        return await handle.result()
    except MeshError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return None  # of the result: the job was there a moment ago
        raise
