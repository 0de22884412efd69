"""Rows as the messages that users see."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from sqlalchemy import RowMapping, select

from scheduler.store.engine import Connection
from scheduler.store.schema import attempts, jobs, micros
from visionmesh import names
from visionmesh.v1 import job_pb2, vision_pb2

MAX_ATTEMPTS_SHOWN = 20


async def jobs_of(connection: Connection, rows: Sequence[RowMapping]) -> list[job_pb2.Job]:
    """Whole jobs, attempts included, for rows of the jobs table."""
    by_job = await _attempts_of(connection, [row["id"] for row in rows])
    return [_job(row, by_job.get(row["id"], [])) for row in rows]


async def job(connection: Connection, job_id: str) -> job_pb2.Job | None:
    """One whole job, or None."""
    rows = (await connection.execute(select(jobs).where(jobs.c.id == job_id))).mappings().all()
    found = await jobs_of(connection, rows)
    return found[0] if found else None


async def _attempts_of(connection: Connection, job_ids: Iterable[str]) -> dict[str, list[job_pb2.Attempt]]:
    query = select(attempts).where(attempts.c.job_id.in_(list(job_ids)))
    by_job: dict[str, list[job_pb2.Attempt]] = {}
    for row in (await connection.execute(query.order_by(attempts.c.job_id, attempts.c.number))).mappings():
        by_job.setdefault(row["job_id"], []).append(_attempt(row))
    return by_job


def _attempt(row: RowMapping) -> job_pb2.Attempt:
    attempt = job_pb2.Attempt(
        number=row["number"],
        runner=names.runner_name(row["runner_id"]),
        state=vision_pb2.AttemptState.Value(f"ATTEMPT_STATE_{row['state']}"),
        cause=vision_pb2.AttemptCause.Value(f"ATTEMPT_CAUSE_{row['cause']}"),
        error=Status.FromString(row["error"]) if row["error"] else None,
    )
    _set_times(attempt, row, ("assign_time", "start_time", "end_time"))
    return attempt


def _job(row: RowMapping, of_job: list[job_pb2.Attempt]) -> job_pb2.Job:
    job = job_pb2.Job.FromString(row["spec"])
    job.name = names.job_name(row["id"])
    job.state = vision_pb2.JobState.Value(f"JOB_STATE_{row['state']}")
    job.attempt = row["attempt"]
    job.progress.MergeFromString(row["progress"])
    if row["error"]:
        job.error.MergeFromString(row["error"])
    job.owner = row["owner"]
    job.trace_id = row["trace_id"]
    job.etag = f"{micros(row['update_time']):x}-{row['sequence']:x}"
    job.retried_from = row["retried_from"]
    job.reproducibility.MergeFromString(row["reproducibility"])
    job.failure_count = row["failure_count"]
    job.attempts.extend(of_job[-MAX_ATTEMPTS_SHOWN:])
    job.cancel_requested = row["cancel_requested"]
    job.sequence = row["sequence"]
    times = ("create_time", "queue_time", "start_time", "end_time", "update_time", "retry_time")
    _set_times(job, row, times)
    return job


def _set_times(message: Any, row: RowMapping, columns: Iterable[str]) -> None:
    for column in columns:
        if row[column] is not None:
            getattr(message, column).FromDatetime(row[column])


def timestamp(moment: datetime) -> Timestamp:
    """A moment as protobuf has it."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
