"""Lists of jobs: filters and orders as SQL, pages by position."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select

from scheduler.admission.filters import Order, Term
from scheduler.store import present
from scheduler.store.engine import Connection
from scheduler.store.schema import deleted_jobs, instant, job_labels, jobs
from visionmesh.v1 import job_pb2

_COLUMNS = {
    "state": jobs.c.state,
    "kind": jobs.c.kind,
    "framework": jobs.c.framework,
    "priority": jobs.c.priority,
    "display_name": jobs.c.display_name,
    "create_time": jobs.c.create_time,
    "update_time": jobs.c.update_time,
    "retried_from": jobs.c.retried_from,
}

_OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


def condition(terms: Sequence[Term]) -> ColumnElement[bool]:
    """All terms of a filter as one SQL condition."""
    return and_(True, *(_condition(term) for term in terms))


def _condition(term: Term) -> ColumnElement[bool]:
    if term.field.startswith("labels."):
        label = (job_labels.c.job_id == jobs.c.id) & (job_labels.c.key == term.field.removeprefix("labels."))
        found = exists().where(label & job_labels.c.value.in_([str(value) for value in term.values]))
        return ~found if term.op == "!=" else found
    column = _COLUMNS[term.field]
    if term.op == "=":
        return column.in_(list(term.values))
    if term.op == "!=":
        return column.not_in(list(term.values))
    return _OPERATORS[term.op](column, term.values[0])


async def page(
    connection: Connection, terms: Sequence[Term], order: Order, after: Sequence[Any] | None, limit: int
) -> list[job_pb2.Job]:
    """Matching jobs in order, from the one after `after` (see `position`) on."""
    column = _COLUMNS[order.field]
    key, tie = (column.desc(), jobs.c.id.desc()) if order.descending else (column, jobs.c.id)
    query = select(jobs).where(condition(terms)).order_by(key, tie).limit(limit)
    if after is not None:
        query = query.where(_after(order, column, after))
    rows = (await connection.execute(query)).mappings().all()
    return await present.jobs_of(connection, rows)


def _after(order: Order, column: ColumnElement[Any], after: Sequence[Any]) -> ColumnElement[bool]:
    value: Any = instant(after[0]) if order.field.endswith("_time") else after[0]
    if order.descending:
        return or_(column < value, and_(column == value, jobs.c.id < after[1]))
    return or_(column > value, and_(column == value, jobs.c.id > after[1]))


def position(order: Order, job: job_pb2.Job, job_id: str) -> list[Any]:
    """Where in the order a job stands: an integer and its id."""
    if order.field == "priority":
        return [job.priority, job_id]
    stamp = job.create_time if order.field == "create_time" else job.update_time
    return [stamp.ToMicroseconds(), job_id]


async def changed_since(
    connection: Connection, since: datetime, after_id: str, limit: int
) -> list[job_pb2.Job]:
    """Jobs changed at or after a moment, oldest change first, from `after_id` on within that moment."""
    query: Select[Any] = (
        select(jobs)
        .where(or_(jobs.c.update_time > since, and_(jobs.c.update_time == since, jobs.c.id > after_id)))
        .order_by(jobs.c.update_time, jobs.c.id)
        .limit(limit)
    )
    rows = (await connection.execute(query)).mappings().all()
    return await present.jobs_of(connection, rows)


async def matching(connection: Connection, terms: Sequence[Term], job_ids: Sequence[str]) -> set[str]:
    """Which of the jobs match a filter."""
    query = select(jobs.c.id).where(jobs.c.id.in_(job_ids), condition(terms))
    return set((await connection.execute(query)).scalars())


async def deleted_since(connection: Connection, since: datetime) -> list[tuple[datetime, str]]:
    """Jobs deleted at or after a moment, oldest first."""
    query = select(deleted_jobs).where(deleted_jobs.c.delete_time >= since)
    rows = (await connection.execute(query.order_by(deleted_jobs.c.delete_time))).all()
    return [(row.delete_time, row.id) for row in rows]
