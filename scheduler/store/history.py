"""Reading what a job has left behind: events, epochs, predictions, artifacts, result."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, RowMapping, Table, func, select

from scheduler.core.model import LIVE, TERMINAL, JobState
from scheduler.oversize import count_fitting
from scheduler.store.engine import Connection
from scheduler.store.present import timestamp
from scheduler.store.schema import artifacts, epochs, events, jobs, predictions
from visionmesh import names
from visionmesh.limits import PAGE_BYTES
from visionmesh.v1 import progress_pb2, result_pb2

_PAGE = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Slice(Generic[T]):
    """Consecutive rows, as many as one page may hold by count and by bytes."""

    items: list[T]
    more: bool
    """Whether there are rows behind them."""


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


async def positions(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """How far the histories of jobs go; those that do not exist are left out."""
    found: dict[str, int] = {}
    for start in range(0, len(job_ids), _PAGE):
        query = select(jobs.c.id, jobs.c.sequence).where(jobs.c.id.in_(job_ids[start : start + _PAGE]))
        found.update({row.id: row.sequence for row in await connection.execute(query)})
    return found


async def states(connection: Connection, job_ids: Iterable[str]) -> dict[str, JobState]:
    """The states of jobs; those that do not exist are left out."""
    query = select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(sorted(set(job_ids))))
    return {row.id: JobState(row.state) for row in await connection.execute(query)}


async def live_attempt(connection: Connection, job_id: str) -> int | None:
    """The attempt of a job that is under way, 0 if none is; None if there is no such job."""
    query = select(jobs.c.attempt, jobs.c.attempt_state).where(jobs.c.id == job_id)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    return row.attempt if row.attempt_state in LIVE else 0


async def _read(
    connection: Connection,
    table: Table,
    job_id: str,
    key: ColumnElement[Any],
    after: object,
    limit: int,
    max_bytes: int = PAGE_BYTES,
) -> Slice[RowMapping]:
    """Rows of a job after `after` in order of `key`. Sizes are asked for first: payloads may be large."""
    here = (table.c.job_id == job_id, key > after)
    sizes = select(key, func.length(table.c.payload)).where(*here).order_by(key).limit(limit + 1)
    found = (await connection.execute(sizes)).all()
    count = count_fitting([size for _key, size in found[:limit]], max_bytes)
    if not count:
        return Slice([], False)
    query = select(table).where(*here, key <= found[count - 1][0]).order_by(key)
    return Slice(list((await connection.execute(query)).mappings()), count < len(found))


async def read_events(
    connection: Connection, job_id: str, after: int, limit: int, max_bytes: int = PAGE_BYTES
) -> Slice[progress_pb2.JobEvent]:
    """Events after sequence `after`, in order."""
    found = await _read(connection, events, job_id, events.c.sequence, after, limit, max_bytes)
    name = names.job_name(job_id)
    told = [
        progress_pb2.JobEvent(
            sequence=row["sequence"],
            job=name,
            attempt=row["attempt"],
            commit_time=timestamp(row["commit_time"]),
            update=progress_pb2.ProgressUpdate.FromString(row["payload"]),
        )
        for row in found.items
    ]
    return Slice(told, found.more)


async def read_epochs(
    connection: Connection, job_id: str, after: int, limit: int
) -> Slice[progress_pb2.EpochMetrics]:
    """Epochs stored after sequence `after`, in order."""
    found = await _read(connection, epochs, job_id, epochs.c.sequence, after, limit)
    told = [
        progress_pb2.EpochMetrics(
            attempt=row["attempt"],
            sequence=row["sequence"],
            epoch=progress_pb2.EpochCompleted.FromString(row["payload"]),
        )
        for row in found.items
    ]
    return Slice(told, found.more)


async def read_predictions(
    connection: Connection, job_id: str, after_index: int, limit: int
) -> Slice[result_pb2.ImagePrediction]:
    """Predictions of images after `after_index`, by index."""
    found = await _read(connection, predictions, job_id, predictions.c.image_index, after_index, limit)
    return Slice([result_pb2.ImagePrediction.FromString(row["payload"]) for row in found.items], found.more)


async def read_new_predictions(
    connection: Connection, job_id: str, after: int, limit: int, max_bytes: int = PAGE_BYTES
) -> Slice[tuple[int, result_pb2.ImagePrediction]]:
    """Predictions stored after sequence `after`, in order of sequence."""
    found = await _read(connection, predictions, job_id, predictions.c.sequence, after, limit, max_bytes)
    told = [(row["sequence"], result_pb2.ImagePrediction.FromString(row["payload"])) for row in found.items]
    return Slice(told, found.more)


async def read_artifacts(
    connection: Connection, job_id: str, after_path: str, limit: int
) -> Slice[result_pb2.Artifact]:
    """Artifacts whose path comes after `after_path`, by path."""
    found = await _read(connection, artifacts, job_id, artifacts.c.path, after_path, limit)
    return Slice([result_pb2.Artifact.FromString(row["payload"]) for row in found.items], found.more)


async def every_artifact(connection: Connection, job_id: str) -> AsyncIterator[result_pb2.Artifact]:
    """All artifacts of a job, by path."""
    page = await read_artifacts(connection, job_id, "", _PAGE)
    while page.items:
        for found in page.items:
            yield found
        after = names.artifact_path(page.items[-1].name)
        page = await read_artifacts(connection, job_id, after, _PAGE)


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
