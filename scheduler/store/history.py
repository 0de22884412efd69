"""Reading what a job has left behind: events, epochs, predictions, artifacts, result."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from scheduler.core.model import TERMINAL, JobState
from scheduler.store.engine import Connection
from scheduler.store.present import timestamp
from scheduler.store.schema import artifacts, epochs, events, jobs, predictions
from visionmesh import names
from visionmesh.v1 import progress_pb2, result_pb2


@dataclass(frozen=True)
class Position:
    """How far a job's history goes."""

    sequence: int
    ended: bool


async def position(connection: Connection, job_id: str) -> Position | None:
    """How far a job's history goes; None if there is no such job."""
    query = select(jobs.c.sequence, jobs.c.state).where(jobs.c.id == job_id)
    row = (await connection.execute(query)).first()
    return None if row is None else Position(row.sequence, JobState(row.state) in TERMINAL)


async def read_events(
    connection: Connection, job_id: str, after: int, limit: int
) -> list[progress_pb2.JobEvent]:
    """Events after sequence `after`, in order."""
    query = (
        select(events)
        .where(events.c.job_id == job_id, events.c.sequence > after)
        .order_by(events.c.sequence)
        .limit(limit)
    )
    name = names.job_name(job_id)
    return [
        progress_pb2.JobEvent(
            sequence=row["sequence"],
            job=name,
            attempt=row["attempt"],
            commit_time=timestamp(row["commit_time"]),
            update=progress_pb2.ProgressUpdate.FromString(row["payload"]),
        )
        for row in (await connection.execute(query)).mappings()
    ]


async def read_epochs(
    connection: Connection, job_id: str, after: int, limit: int
) -> list[progress_pb2.EpochMetrics]:
    """Epochs stored after sequence `after`, in order."""
    query = (
        select(epochs)
        .where(epochs.c.job_id == job_id, epochs.c.sequence > after)
        .order_by(epochs.c.sequence)
        .limit(limit)
    )
    return [
        progress_pb2.EpochMetrics(
            attempt=row["attempt"],
            sequence=row["sequence"],
            epoch=progress_pb2.EpochCompleted.FromString(row["payload"]),
        )
        for row in (await connection.execute(query)).mappings()
    ]


async def read_predictions(
    connection: Connection, job_id: str, after_index: int, limit: int
) -> list[result_pb2.ImagePrediction]:
    """Predictions of images after `after_index`, by index."""
    query = (
        select(predictions.c.payload)
        .where(predictions.c.job_id == job_id, predictions.c.image_index > after_index)
        .order_by(predictions.c.image_index)
        .limit(limit)
    )
    rows = (await connection.execute(query)).scalars()
    return [result_pb2.ImagePrediction.FromString(row) for row in rows]


async def read_new_predictions(
    connection: Connection, job_id: str, after: int, limit: int
) -> list[tuple[int, result_pb2.ImagePrediction]]:
    """Predictions stored after sequence `after`, in order of sequence."""
    query = (
        select(predictions.c.sequence, predictions.c.payload)
        .where(predictions.c.job_id == job_id, predictions.c.sequence > after)
        .order_by(predictions.c.sequence)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    return [(row.sequence, result_pb2.ImagePrediction.FromString(row.payload)) for row in rows]


async def read_artifacts(
    connection: Connection, job_id: str, after_path: str, limit: int
) -> list[result_pb2.Artifact]:
    """Artifacts whose path comes after `after_path`, by path."""
    query = (
        select(artifacts.c.payload)
        .where(artifacts.c.job_id == job_id, artifacts.c.path > after_path)
        .order_by(artifacts.c.path)
        .limit(limit)
    )
    rows: Sequence[bytes] = (await connection.execute(query)).scalars().all()
    return [result_pb2.Artifact.FromString(row) for row in rows]


async def artifact(connection: Connection, job_id: str, path: str) -> result_pb2.Artifact | None:
    """One artifact, or None."""
    query = select(artifacts.c.payload).where(artifacts.c.job_id == job_id, artifacts.c.path == path)
    row = (await connection.execute(query)).scalar()
    return None if row is None else result_pb2.Artifact.FromString(row)


async def result(connection: Connection, job_id: str) -> result_pb2.Result | None:
    """The summary of a job, or None if it has none yet."""
    query = select(jobs.c.result, jobs.c.state).where(jobs.c.id == job_id)
    row = (await connection.execute(query)).first()
    if row is None or row.result is None:
        return None
    summary = result_pb2.Result.FromString(row.result)
    summary.partial = JobState(row.state) is not JobState.SUCCEEDED
    return summary
