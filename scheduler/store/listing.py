"""Lists of jobs: filters and orders as SQL, pages by position."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, or_, select

from scheduler.admission.filters import Order, Term
from scheduler.oversize import count_fitting
from scheduler.store import present
from scheduler.store.engine import Connection
from scheduler.store.history import Slice
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

# What a job's row holds that may be large; its attempts are few and their errors short.
_LARGE = (jobs.c.spec, jobs.c.progress, jobs.c.reproducibility, jobs.c.error)
_SIZED = (jobs.c.id, sum((func.coalesce(func.length(part), 0) for part in _LARGE), literal(0)).label("size"))

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
) -> Slice[job_pb2.Job]:
    """Matching jobs in order, from the one after `after` (see `position`) on."""
    column = _COLUMNS[order.field]
    key, tie = (column.desc(), jobs.c.id.desc()) if order.descending else (column, jobs.c.id)
    query = select(*_SIZED).where(condition(terms)).order_by(key, tie)
    if after is not None:
        query = query.where(_after(order, column, after))
    return await _read(connection, query, limit)


async def _read(connection: Connection, query: Select[Any], limit: int) -> Slice[job_pb2.Job]:
    """The jobs that `query` names and sizes, as many as one page may hold."""
    found = (await connection.execute(query.limit(limit + 1))).all()
    ids = [row.id for row in found[: count_fitting([row.size for row in found[:limit]])]]
    rows = (await connection.execute(select(jobs).where(jobs.c.id.in_(ids)))).mappings()
    by_id = {row["id"]: row for row in rows}
    return Slice(await present.jobs_of(connection, [by_id[job_id] for job_id in ids]), len(ids) < len(found))


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
) -> Slice[job_pb2.Job]:
    """Jobs changed at or after a moment, oldest change first, from `after_id` on within that moment."""
    query: Select[Any] = (
        select(*_SIZED)
        .where(or_(jobs.c.update_time > since, and_(jobs.c.update_time == since, jobs.c.id > after_id)))
        .order_by(jobs.c.update_time, jobs.c.id)
    )
    return await _read(connection, query, limit)


async def newest_change(connection: Connection) -> datetime:
    """When a job was last changed or deleted, as far as is known."""
    moments = [
        (await connection.execute(select(func.max(column)))).scalar()
        for column in (jobs.c.update_time, deleted_jobs.c.delete_time)
    ]
    return max((moment for moment in moments if moment is not None), default=instant(0))


async def matching(connection: Connection, terms: Sequence[Term], job_ids: Sequence[str]) -> set[str]:
    """Which of the jobs match a filter."""
    query = select(jobs.c.id).where(jobs.c.id.in_(job_ids), condition(terms))
    return set((await connection.execute(query)).scalars())


async def deleted_since(connection: Connection, since: datetime) -> list[tuple[datetime, str]]:
    """Jobs deleted at or after a moment, oldest first."""
    query = select(deleted_jobs).where(deleted_jobs.c.delete_time >= since)
    rows = (await connection.execute(query.order_by(deleted_jobs.c.delete_time))).all()
    return [(row.delete_time, row.id) for row in rows]
