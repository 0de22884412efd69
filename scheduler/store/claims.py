"""Which queued job a runner gets.

A claim looks at the head of one index per shape that fits the runner, so it stays cheap however
many jobs are queued. A job that does not fit never blocks one behind it that does; one that has
waited for long on a runner which could fit it gets that runner reserved.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, delete, func, insert, select

from scheduler.core.model import LIVE, Assigned
from scheduler.core.placement import PUBLISHED, Gpu, Node, Shape, choose_gpus, obstacles
from scheduler.store.engine import Connection
from scheduler.store.schema import attempts, jobs, reservations, runners, shapes
from scheduler.store.store import Change
from visionmesh.v1 import runner_pb2


@dataclass(frozen=True)
class Claim:
    """A job given to a runner."""

    job_id: str
    attempt: int
    gpu_indices: tuple[int, ...]


@dataclass(frozen=True)
class _Head:
    """The first job in the queue of one shape."""

    job_id: str
    shape: Shape
    order: tuple[int, int, str]
    queue_time: datetime


async def claim(
    change: Change, runner_id: str, connect_time: datetime, reserve_after: timedelta
) -> Claim | None:
    """Give the runner that registered at `connect_time` the first job that fits it, or None.

    None, too, if it has registered anew since: what a stream has that is gone reaches nobody.
    """
    incarnation = await _registered(change.connection, runner_id, connect_time)
    if incarnation is None:
        return None
    loaded = await node(change.connection, runner_id, change.now)
    if loaded is None:
        return None
    free, whole = loaded
    heads = await _heads(change.connection, free.framework)
    fitting = [head for head in heads if not obstacles(head.shape, free)]
    if free.reserved_for is not None:
        fitting = await _honour_reservation(change, runner_id, free, fitting)
    else:
        starving = _starving(heads, fitting, whole, change.now - reserve_after)
        if starving is not None and await _reserve(change, runner_id, starving):
            return None
    if not fitting:
        return None
    best = min(fitting, key=lambda head: head.order)
    gpus = choose_gpus(best.shape, free)
    record = await change.job(best.job_id)
    record.apply(Assigned(runner_id), change.now)
    if record.attempt is None:
        raise RuntimeError("an assignment without an attempt")
    record.attempt.incarnation = incarnation
    record.attempt.gpu_indices = ",".join(map(str, gpus))
    await change.connection.execute(delete(reservations).where(reservations.c.job_id == best.job_id))
    return Claim(best.job_id, record.attempt.number, gpus)


async def _registered(connection: Connection, runner_id: str, connect_time: datetime) -> str | None:
    """The process that registered then, if that was the last time that one did under the runner's id.

    Locks the runner: two claims in its name would count the same free places.
    """
    then = (runners.c.id == runner_id, runners.c.connect_time == connect_time)
    return (await connection.execute(select(runners.c.incarnation).where(*then).with_for_update())).scalar()


async def _honour_reservation(
    change: Change, runner_id: str, free: Node, fitting: list[_Head]
) -> list[_Head]:
    """Only the job that the runner is reserved for; all of them if that one does not wait any more."""
    query = select(jobs.c.id).where(jobs.c.id == free.reserved_for, jobs.c.claimable)
    if (await change.connection.execute(query)).scalar() is not None:
        return [head for head in fitting if head.job_id == free.reserved_for]
    await change.connection.execute(delete(reservations).where(reservations.c.runner_id == runner_id))
    return fitting


def _starving(heads: list[_Head], fitting: list[_Head], whole: Node, since: datetime) -> _Head | None:
    """The first job, queued before `since` and ahead of all that fit, that the empty runner could take."""
    first = min((head.order for head in fitting), default=None)
    waiting = [
        head
        for head in heads
        if head not in fitting
        and head.queue_time <= since
        and not obstacles(head.shape, whole)
        and (first is None or head.order < first)
    ]
    return min(waiting, key=lambda head: head.order, default=None)


async def _reserve(change: Change, runner_id: str, head: _Head) -> bool:
    query = select(reservations.c.runner_id).where(reservations.c.job_id == head.job_id)
    if (await change.connection.execute(query)).scalar() is not None:
        return False  # another runner is being freed for it
    values = {"runner_id": runner_id, "job_id": head.job_id, "create_time": change.now}
    await change.connection.execute(insert(reservations).values(values))
    return True


async def _heads(connection: Connection, framework: str) -> list[_Head]:
    rows = (await connection.execute(select(shapes).where(shapes.c.framework == framework))).mappings().all()
    heads = []
    for row in rows:
        found = (await connection.execute(_head_of(row["id"]))).mappings().first()
        if found is not None:
            order = (-found["priority"], found["order_key"], found["id"])
            heads.append(_Head(found["id"], shape_from(row), order, found["queue_time"]))
    return heads


def _head_of(shape_id: int) -> Select[Any]:
    return (
        select(jobs.c.id, jobs.c.priority, jobs.c.order_key, jobs.c.queue_time)
        .where(jobs.c.shape_id == shape_id, jobs.c.claimable)
        .order_by(jobs.c.priority.desc(), jobs.c.order_key, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def shape_from(row: RowMapping) -> Shape:
    """The shape in a row of the shapes table."""
    return Shape(
        row["framework"], row["gpus"], row["gpu_memory_mib"], row["cpus"], json.loads(row["selector"])
    )


async def node(connection: Connection, runner_id: str, now: datetime) -> tuple[Node, Node] | None:
    """A runner as it is now, and as it would be without work; None if it is not known."""
    rows = (await connection.execute(select(runners).where(runners.c.id == runner_id))).mappings()
    row = rows.first()
    if row is None:
        return None
    held = await connection.execute(
        select(shapes, attempts.c.gpu_indices)
        .select_from(
            attempts.join(jobs, jobs.c.id == attempts.c.job_id).join(shapes, shapes.c.id == jobs.c.shape_id)
        )
        .where(attempts.c.runner_id == runner_id, attempts.c.state.in_(sorted(LIVE)))
    )
    reserved = select(reservations.c.job_id).where(reservations.c.runner_id == runner_id)
    whole = replace(_whole(row, now), reserved_for=(await connection.execute(reserved)).scalar())
    free = whole
    for used in held.mappings():
        taken = {int(index) for index in used["gpu_indices"].split(",") if index}
        free = replace(
            free,
            free_slots=free.free_slots - 1,
            free_cpus=free.free_cpus - used["cpus"],
            free_gpus=tuple(gpu for gpu in free.free_gpus if gpu.index not in taken),
        )
    return free, whole


def _whole(row: RowMapping, now: datetime) -> Node:
    register = runner_pb2.Register.FromString(row["register"])
    return Node(
        name=row["id"],
        framework=row["framework"],
        online=row["connected"] and row["lease_expire_time"] > now,
        draining=row["draining"] or row["stopping"],
        labels={**register.labels, **(PUBLISHED if register.manifest.fetches_pretrained else {})},
        free_slots=register.capacity.slots,
        free_cpus=register.capacity.cpus,
        free_gpus=tuple(Gpu(gpu.index, gpu.memory_mib) for gpu in register.capacity.gpus),
    )


async def jobs_ahead(connection: Connection, job_id: str, shape_ids: list[int]) -> int:
    """Queued jobs of the given shapes that go before `job_id`."""
    mine = (
        await connection.execute(select(jobs.c.priority, jobs.c.order_key).where(jobs.c.id == job_id))
    ).one()
    before = (jobs.c.priority > mine.priority) | (
        (jobs.c.priority == mine.priority)
        & (
            (jobs.c.order_key < mine.order_key)
            | ((jobs.c.order_key == mine.order_key) & (jobs.c.id < job_id))
        )
    )
    query = select(func.count()).where(jobs.c.claimable, jobs.c.shape_id.in_(shape_ids), before)
    return int((await connection.execute(query)).scalar_one())
