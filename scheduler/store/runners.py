"""Runners: who is there, until when, and what they hold."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
from google.rpc import code_pb2
from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite

from scheduler.core.machine import IllegalEvent
from scheduler.core.model import LIVE, AssignmentAccepted, AttemptEnded, AttemptState, Cause
from scheduler.store.engine import Connection
from scheduler.store.schema import attempts, runners
from scheduler.store.store import Change
from visionmesh import names
from visionmesh.errors import MeshError, Reason, not_found, status, status_of
from visionmesh.v1 import runner_pb2


@dataclass(frozen=True)
class LiveAttempt:
    """A live attempt on a runner."""

    job_id: str
    number: int
    incarnation: str
    state: AttemptState

    @property
    def key(self) -> tuple[str, int]:
        """Job and attempt."""
        return self.job_id, self.number


async def register(change: Change, message: runner_pb2.Register, lease: timedelta) -> list[tuple[str, int]]:
    """Store who is there; returns the attempts to go on with.

    Attempts that an earlier process of the same id had, and that this one does not name, are lost.
    """
    runner_id = message.runner_id
    insert = upsert_sqlite if change.connection.dialect_name == "sqlite" else upsert_postgresql
    values = {
        "incarnation": message.incarnation,
        "framework": message.manifest.framework,
        "register": message.SerializeToString(),
        "connected": True,
        "stopping": False,
        "connect_time": change.now,
        "heartbeat_time": change.now,
        "lease_expire_time": change.now + lease,
    }
    statement = insert(runners).values(id=runner_id, draining=False, **values)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_=values)
    await change.connection.execute(statement)
    named = {(names.job_id(ref.job), ref.attempt) for ref in message.attempts}
    keep = []
    attempts_there = await live_attempts(change.connection, runner_id)
    await change.jobs(attempt.job_id for attempt in attempts_there)  # all at once: locked in their order
    for attempt in attempts_there:
        if attempt.key in named:
            keep.append(attempt.key)
            await accept(change, *attempt.key)  # naming it is taking it: the answer may have been lost
        else:
            why = f"runner {names.runner_name(runner_id)} came back without the attempt"
            await lose(change, attempt, why)
    change.effects.claimable = True
    return keep


async def live_attempts(connection: Connection, runner_id: str) -> list[LiveAttempt]:
    """The live attempts on a runner, oldest first."""
    query = (
        select(attempts)
        .where(attempts.c.runner_id == runner_id, attempts.c.state.in_(sorted(LIVE)))
        .order_by(attempts.c.assign_time)
    )
    rows = (await connection.execute(query)).mappings()
    return [
        LiveAttempt(row["job_id"], row["number"], row["incarnation"], AttemptState(row["state"]))
        for row in rows
    ]


async def heartbeat(
    change: Change, runner_id: str, incarnation: str, connect_time: datetime, lease: timedelta
) -> datetime:
    """Renew the lease of a process that registered at `connect_time`; returns when it ends.

    Raises RUNNER_SUPERSEDED if another process has the id. UNAVAILABLE if the process has registered anew
    since: this heartbeat is old, of a stream that is gone; and if the database knows nothing of the
    registration, as after a restore: the runner has to register anew.
    """
    until = change.now + lease
    result = await change.connection.execute(
        update(runners)
        .where(runners.c.id == runner_id, runners.c.connect_time == connect_time)
        .values(heartbeat_time=change.now, lease_expire_time=until, connected=True)
    )
    if result.rowcount == 1:
        return until
    query = select(runners.c.connect_time, runners.c.incarnation).where(runners.c.id == runner_id)
    known = (await change.connection.execute(query)).first()
    if known is not None and known.connect_time > connect_time and known.incarnation != incarnation:
        raise runner_superseded(runner_id)
    text = f"This is not the newest stream on which {names.runner_name(runner_id)} is known. Register anew."
    raise MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, text)


def runner_superseded(runner_id: str) -> MeshError:
    """ABORTED: another process registered under the same id."""
    message = (
        f"Another process has registered as {names.runner_name(runner_id)}. Give each runner an id of its "
        "own (--runner-id), or stop one of the two."
    )
    return MeshError(grpc.StatusCode.ABORTED, Reason.RUNNER_SUPERSEDED, message)


async def disconnect(change: Change, runner_id: str, connect_time: datetime) -> None:
    """Note that the stream that registered at `connect_time` is gone, unless a newer one has come.

    The lease runs on.
    """
    await change.connection.execute(
        update(runners)
        .where(runners.c.id == runner_id, runners.c.connect_time == connect_time)
        .values(connected=False)
    )


async def set_stopping(change: Change, runner_id: str, incarnation: str) -> None:
    """The runner is about to stop: give it nothing more."""
    await change.connection.execute(
        update(runners)
        .where(runners.c.id == runner_id, runners.c.incarnation == incarnation)
        .values(stopping=True)
    )


async def set_draining(change: Change, runner_id: str, draining: bool) -> None:
    """An operator wants the runner drained, or used again. Raises NOT_FOUND."""
    result = await change.connection.execute(
        update(runners).where(runners.c.id == runner_id).values(draining=draining)
    )
    if result.rowcount != 1:
        raise not_found("runner", names.runner_name(runner_id))
    change.effects.claimable = True


async def accept(change: Change, job_id: str, attempt: int) -> bool:
    """The runner took an assignment; returns whether it still stands."""
    record = (await change.jobs([job_id])).get(job_id)
    if record is None or record.job.attempt != attempt:
        return False
    try:
        record.apply(AssignmentAccepted(), change.now)
    except IllegalEvent:
        return record.job.live and record.job.attempt_state is not AttemptState.ASSIGNED
    return True


async def take_back(change: Change, job_id: str, attempt: int, why: str) -> None:
    """Put a job back whose assignment was refused or never answered."""
    record = (await change.jobs([job_id])).get(job_id)
    if record is None or record.job.attempt != attempt:
        return
    if record.job.attempt_state is AttemptState.ASSIGNED:
        error = status(code_pb2.UNAVAILABLE, Reason.RUNNER_LOST, why)
        record.apply(AttemptEnded(AttemptState.LOST, Cause.NOT_ACCEPTED), change.now, error, why)


async def refuse_inputs(change: Change, job_id: str, attempt: int, error: MeshError) -> None:
    """End an attempt whose inputs are gone: another would not find them either."""
    record = (await change.jobs([job_id])).get(job_id)
    if record is not None and record.job.attempt == attempt and record.job.live:
        ended = AttemptEnded(AttemptState.FAILED, Cause.USER_ERROR)
        record.apply(ended, change.now, status_of(error), error.message)


async def lose(change: Change, attempt: LiveAttempt, why: str) -> None:
    """End an attempt whose runner is gone."""
    record = (await change.jobs([attempt.job_id])).get(attempt.job_id)
    if record is None or record.job.attempt != attempt.number or not record.job.live:
        return
    cause = Cause.NOT_ACCEPTED if attempt.state is AttemptState.ASSIGNED else Cause.RUNNER_LOST
    error = status(code_pb2.UNAVAILABLE, Reason.RUNNER_LOST, f"The attempt was lost: {why}.")
    record.apply(AttemptEnded(AttemptState.LOST, cause), change.now, error, error.message)


async def leases(connection: Connection) -> dict[str, datetime]:
    """Until when the runners that hold live attempts have their leases."""
    live = (
        select(attempts.c.number)
        .where(attempts.c.runner_id == runners.c.id, attempts.c.end_time.is_(None))  # as the index is made
        .where(attempts.c.state.in_(sorted(LIVE)))
    )
    query = select(runners.c.id, runners.c.lease_expire_time).where(live.exists())
    return {row.id: row.lease_expire_time for row in await connection.execute(query)}


async def overdue_assignments(change: Change, older_than: datetime) -> None:
    """Take back assignments that nobody has answered since `older_than`."""
    query = select(attempts.c.job_id, attempts.c.number).where(
        attempts.c.state == AttemptState.ASSIGNED, attempts.c.assign_time <= older_than
    )
    overdue = (await change.connection.execute(query)).all()
    await change.jobs(job_id for job_id, _ in overdue)  # all at once: locked in their order
    for job_id, number in overdue:
        await take_back(change, job_id, number, "the runner did not answer the assignment")


async def manifests(connection: Connection, framework: str) -> list[runner_pb2.FrameworkManifest]:
    """Manifests of the runners of a framework, newest first."""
    query = select(runners.c.register).where(runners.c.framework == framework)
    rows = (await connection.execute(query.order_by(runners.c.connect_time.desc()))).scalars()
    return [runner_pb2.Register.FromString(row).manifest for row in rows]


async def frameworks(connection: Connection) -> list[str]:
    """Frameworks of which a runner has ever registered."""
    return sorted((await connection.execute(select(runners.c.framework).distinct())).scalars())


def message(row: RowMapping, held: Collection[LiveAttempt], now: datetime) -> runner_pb2.Runner:
    """A row of the runners table as users see it."""
    register_ = runner_pb2.Register.FromString(row["register"])
    online = row["connected"] and row["lease_expire_time"] > now
    state = runner_pb2.RUNNER_STATE_ONLINE if online else runner_pb2.RUNNER_STATE_OFFLINE
    if online and (row["draining"] or row["stopping"]):
        state = runner_pb2.RUNNER_STATE_DRAINING
    runner = runner_pb2.Runner(
        name=names.runner_name(row["id"]),
        state=state,
        framework=row["framework"],
        framework_version=register_.manifest.version,
        version=register_.version,
        hostname=register_.hostname,
        capacity=register_.capacity,
        labels=register_.labels,
        attempts=[
            runner_pb2.AttemptRef(job=names.job_name(attempt.job_id), attempt=attempt.number)
            for attempt in held
        ],
        manifest=register_.manifest,
    )
    for column in ("connect_time", "heartbeat_time", "lease_expire_time"):
        getattr(runner, column).FromDatetime(row[column])
    return runner
