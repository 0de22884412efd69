"""Creating, ending and deleting jobs; who waits for whom."""

import json
from collections.abc import Sequence
from datetime import timedelta

import grpc
from google.rpc import code_pb2
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite

from scheduler.core import machine
from scheduler.core.model import (
    TERMINAL,
    BackoffOver,
    CancelRequested,
    Created,
    DependencyFailed,
    DependencySucceeded,
    Job,
    JobState,
    QueueTimedOut,
)
from scheduler.core.placement import PUBLISHED, Shape
from scheduler.store import datasets, history, present
from scheduler.store.engine import Connection
from scheduler.store.schema import (
    deleted_jobs,
    dependencies,
    events,
    job_labels,
    jobs,
    micros,
    requests,
    shapes,
)
from scheduler.store.store import Change
from visionmesh import names
from visionmesh.errors import MeshError, Reason, precondition, status
from visionmesh.published import uses_published_weights
from visionmesh.v1 import job_pb2, progress_pb2

DEFAULT_GRACE = timedelta(seconds=30)
"""Time that a running attempt has to stop by itself."""


async def create(change: Change, job_id: str, job: job_pb2.Job, *, trace_id: str, retried_from: str) -> None:
    """Store a new job, PENDING or QUEUED. Its dependencies must exist."""
    now = change.now
    waiting = await unsettled(change.connection, job)
    facts = machine.step(Job(), Created(len(waiting)), now).job
    queued = facts.state is JobState.QUEUED
    queue_timeout = job.queue_timeout.ToTimedelta()
    row = {
        "id": job_id,
        "kind": job.WhichOneof("spec"),
        "framework": job.framework,
        "display_name": job.display_name,
        "owner": job.owner,
        "priority": job.priority,
        "shape_id": await _shape_id(change.connection, shape_of(job)),
        "spec": job.SerializeToString(),
        "state": facts.state,
        "waiting_for": facts.waiting_for,
        "claimable": queued,
        "order_key": micros(now),
        "sequence": 1,
        "reproducibility": await _reproducibility(change.connection, job),
        "trace_id": trace_id,
        "retried_from": retried_from,
        "create_time": now,
        "queue_time": now if queued else None,
        "queue_deadline": now + queue_timeout if queued and queue_timeout else None,
        "update_time": now,
    }
    await change.connection.execute(insert(jobs).values(row))
    await change.connection.execute(insert(events).values(_created(job_id, facts.state, change)))
    for key, value in job.labels.items():
        await change.connection.execute(insert(job_labels).values(job_id=job_id, key=key, value=value))
    for name in job.depends_on:
        other = names.job_id(name)
        await change.connection.execute(
            insert(dependencies).values(job_id=job_id, depends_on=other, settled=other not in waiting)
        )
    change.effects.changed.add(job_id)
    change.effects.claimable |= queued
    change.effects.timed |= row["queue_deadline"] is not None


def _created(job_id: str, state: JobState, change: Change) -> dict[str, object]:
    changed = progress_pb2.StateChanged(
        to_state=job_pb2.Job(state=f"JOB_STATE_{state}").state,  # type: ignore[arg-type]
        reason="CREATED",
    )
    event = progress_pb2.ProgressUpdate(state_changed=changed)
    event.event_time.FromDatetime(change.now)
    return {
        "job_id": job_id,
        "sequence": 1,
        "attempt": 0,
        "kind": "state_changed",
        "commit_time": change.now,
        "payload": event.SerializeToString(),
    }


async def unsettled(connection: Connection, job: job_pb2.Job) -> set[str]:
    """Dependencies that have not succeeded yet. Raises DEPENDENCY_FAILED if one never will."""
    wanted = {names.job_id(name) for name in job.depends_on}
    states = await history.states(connection, wanted)
    for other in sorted(wanted):
        state = states.get(other)
        if state is None or (state in TERMINAL and state is not JobState.SUCCEEDED):
            found = state.lower() if state else "absent"
            raise precondition(
                Reason.DEPENDENCY_FAILED,
                f"The job depends on {names.job_name(other)}, which is {found} and will not succeed. "
                f"Retry that job, and depend on the new one.",
                job=names.job_name(other),
            )
    return {other for other, state in states.items() if state is not JobState.SUCCEEDED}


async def _reproducibility(connection: Connection, job: job_pb2.Job) -> bytes:
    """What is known before the job runs: which files its dataset holds."""
    used = sorted(datasets.datasets_of(job))
    found = await datasets.get(connection, names.dataset_id(used[0])) if used else None
    known = job_pb2.Reproducibility(dataset_digest=found.digest if found else "")
    return known.SerializeToString()


def shape_of(job: job_pb2.Job) -> Shape:
    """What a runner must have to take `job`."""
    needs = job.resources
    selector = {**job.runner_selector, **(PUBLISHED if uses_published_weights(job) else {})}
    return Shape(job.framework, needs.gpus, needs.gpu_memory_mib, needs.cpus, selector)


async def _shape_id(connection: Connection, shape: Shape) -> int:
    selector = json.dumps(shape.selector, sort_keys=True)
    values = {
        "framework": shape.framework,
        "gpus": shape.gpus,
        "gpu_memory_mib": shape.gpu_memory_mib,
        "cpus": shape.cpus,
        "selector": selector,
    }
    key = json.dumps(values, sort_keys=True)
    found = (await connection.execute(select(shapes.c.id).where(shapes.c.key == key))).scalar()
    if found is None:
        insert_ = upsert_sqlite if connection.dialect_name == "sqlite" else upsert_postgresql
        new = insert_(shapes).values(key=key, **values).on_conflict_do_nothing(index_elements=["key"])
        await connection.execute(new)  # another replica may do the same at this moment
        found = (await connection.execute(select(shapes.c.id).where(shapes.c.key == key))).scalar_one()
    return int(found)


async def known_request(connection: Connection, owner: str, request_id: str, fingerprint: str) -> str | None:
    """The resource that this request made before, or None. Raises REQUEST_ID_REUSED for other content."""
    if not request_id:
        return None
    mine = (requests.c.owner == owner, requests.c.request_id == request_id)
    known = (await connection.execute(select(requests).where(*mine))).mappings().first()
    if known is None:
        return None
    if known["fingerprint"] != fingerprint:
        raise request_id_reused(request_id, known["resource"])
    return str(known["resource"])


async def remember_request(
    change: Change, owner: str, request_id: str, fingerprint: str, resource: str
) -> str | None:
    """As known_request; if the request is new, notes that it makes `resource`."""
    known = await known_request(change.connection, owner, request_id, fingerprint)
    if known is None and request_id:
        values = {"owner": owner, "request_id": request_id, "fingerprint": fingerprint, "resource": resource}
        await change.connection.execute(insert(requests).values(**values, create_time=change.now))
    return known


def request_id_reused(request_id: str, resource: str) -> MeshError:
    """ALREADY_EXISTS: the same request_id with other content."""
    message = (
        f"request_id {request_id!r} was used before, with other content, and made {resource}. "
        "Use a new request_id for a new request."
    )
    return MeshError(
        grpc.StatusCode.ALREADY_EXISTS, Reason.REQUEST_ID_REUSED, message, {"resource": resource}
    )


async def cancel(change: Change, job_id: str, grace_period: timedelta) -> None:
    """Ask a job to stop. Raises NOT_FOUND, and JOB_ALREADY_ENDED."""
    record = await change.job(job_id)
    if record.job.state in TERMINAL:
        raise precondition(
            Reason.JOB_ALREADY_ENDED,
            f"Job {names.job_name(job_id)} is {record.job.state} already; there is nothing to cancel. "
            "To run it again, retry it.",
            job=names.job_name(job_id),
            state=record.job.state,
        )
    record.apply(CancelRequested(grace_period), change.now, message="cancelled on request")


async def remove(change: Change, job_id: str) -> str:
    """Delete a job that has ended; returns its kind.

    Raises NOT_FOUND, JOB_NOT_ENDED, JOB_IN_USE.
    """
    record = await change.job(job_id)
    name = names.job_name(job_id)
    if record.job.state not in TERMINAL:
        raise precondition(
            Reason.JOB_NOT_ENDED,
            f"Job {name} is {record.job.state}. Cancel it first, then delete it.",
            job=name,
        )
    waiting = select(dependencies.c.job_id).where(
        dependencies.c.depends_on == job_id, dependencies.c.settled.is_(False)
    )
    in_use = (await change.connection.execute(waiting.limit(1))).scalar()
    if in_use is not None:
        raise precondition(
            Reason.JOB_IN_USE,
            f"Job {name} is needed by {names.job_name(in_use)}. Cancel that one first.",
            job=name,
        )
    await change.connection.execute(delete(jobs).where(jobs.c.id == job_id))
    await change.connection.execute(insert(deleted_jobs).values(id=job_id, delete_time=change.now))
    change.effects.changed.add(job_id)
    return record.kind


async def settle_dependencies(change: Change) -> int:
    """Tell jobs that the jobs they wait for have ended; returns how many were told."""
    other = jobs.alias("other")
    query = (
        select(dependencies.c.job_id, dependencies.c.depends_on, other.c.state)
        .select_from(dependencies.outerjoin(other, other.c.id == dependencies.c.depends_on))
        .where(
            dependencies.c.settled.is_(False),
            other.c.state.in_(sorted(TERMINAL)) | other.c.state.is_(None),
        )
        .order_by(dependencies.c.job_id, dependencies.c.depends_on)
        .limit(1000)
    )
    rows = (await change.connection.execute(query)).all()
    records = await change.jobs(row.job_id for row in rows)  # all at once: locked in their order
    for job_id, depends_on, state in rows:
        told = await change.connection.execute(
            update(dependencies)
            .where(
                dependencies.c.job_id == job_id,
                dependencies.c.depends_on == depends_on,
                dependencies.c.settled.is_(False),
            )
            .values(settled=True)
        )
        if told.rowcount != 1:  # another replica has told it
            continue
        record = records[job_id]
        if record.job.state is not JobState.PENDING:
            continue
        if state == JobState.SUCCEEDED:
            record.apply(DependencySucceeded(), change.now, message=f"{names.job_name(depends_on)} succeeded")
            continue
        name = names.job_name(depends_on)
        message = (
            f"{name}, which this job depends on, {(state or 'was deleted').lower()}. "
            f"Look at it with `vmesh watch {name}`, retry it, then create this job again."
        )
        error = status(code_pb2.FAILED_PRECONDITION, Reason.DEPENDENCY_FAILED, message, job=name)
        record.apply(DependencyFailed(name), change.now, error, message)
    return len(rows)


async def queue_after_backoff(change: Change) -> int:
    """Queue the jobs whose backoff is over; returns how many."""
    query = select(jobs.c.id).where(
        jobs.c.state == JobState.PENDING, jobs.c.retry_time.is_not(None), jobs.c.retry_time <= change.now
    )
    due = (await change.connection.execute(query.limit(1000))).scalars().all()
    for record in (await change.jobs(due)).values():
        if record.job.state is JobState.PENDING:  # no other replica was faster
            record.apply(BackoffOver(), change.now)
    return len(due)


async def fail_queue_timeouts(change: Change) -> int:
    """Fail the jobs that have waited in the queue for too long; returns how many."""
    query = select(jobs.c.id).where(
        jobs.c.state == JobState.QUEUED, jobs.c.claimable, jobs.c.queue_deadline <= change.now
    )
    due: Sequence[str] = (await change.connection.execute(query.limit(1000))).scalars().all()
    for record in (await change.jobs(due)).values():
        if not record.claimable:  # another replica was faster
            continue
        waited = record.spec_message().queue_timeout.ToTimedelta()
        message = (
            f"No runner took the job within its queue_timeout of {waited.total_seconds():g} s. "
            "Add runners, free some, or raise queue_timeout."
        )
        error = status(code_pb2.DEADLINE_EXCEEDED, Reason.QUEUE_TIMEOUT, message)
        record.apply(QueueTimedOut(), change.now, error, message)
    return len(due)


async def next_due(connection: Connection) -> int | None:
    """Microseconds since 1970 of the next backoff's end or queue timeout; None if there is none."""
    retry = select(jobs.c.retry_time).where(jobs.c.state == JobState.PENDING, jobs.c.retry_time.is_not(None))
    deadline = select(jobs.c.queue_deadline).where(
        jobs.c.state == JobState.QUEUED, jobs.c.claimable, jobs.c.queue_deadline.is_not(None)
    )
    moments = [
        (await connection.execute(retry.order_by(jobs.c.retry_time).limit(1))).scalar(),
        (await connection.execute(deadline.order_by(jobs.c.queue_deadline).limit(1))).scalar(),
    ]
    due = [micros(moment) for moment in moments if moment is not None]
    return min(due, default=None)


get = present.job
