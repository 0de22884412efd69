"""Images of the external media store: how the last try to fetch each has ended."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from google.rpc import status_pb2
from sqlalchemy import RowMapping, select
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite

from scheduler.admission.references import images_of
from scheduler.store.engine import Connection
from scheduler.store.present import timestamp
from scheduler.store.schema import media_items
from scheduler.store.store import Change
from visionmesh import names
from visionmesh.v1 import dataset_pb2, job_pb2


@dataclass(frozen=True)
class Outcome:
    """How a try to fetch an image has ended."""

    media_id: str
    state: str
    """PENDING, SYNCED, FAILED or GONE."""

    size_bytes: int = 0
    sha256: str = ""
    content_type: str = ""
    error: status_pb2.Status | None = None


async def name_by(change: Change, media_ids: Iterable[str], job_id: str) -> None:
    """Note that a job names these images; what is known of their bytes stays."""
    fresh = {"job_id": job_id, "state": "PENDING", "size_bytes": 0, "sha256": "", "content_type": ""}
    rows = [fresh | {"id": media_id, "error": None, "sync_time": None} for media_id in sorted(set(media_ids))]
    await _upsert(change.connection, rows, ("job_id",))


async def record(change: Change, outcomes: Iterable[Outcome], job_id: str) -> None:
    """Store how tries have ended; of several for one image the last."""
    rows = {outcome.media_id: _row(outcome, job_id, change.now) for outcome in outcomes}
    in_order = [rows[media_id] for media_id in sorted(rows)]  # two writers must not wait for each other
    ended = ("state", "error", "sync_time")
    synced = [row for row in in_order if row["state"] == "SYNCED"]
    await _upsert(change.connection, synced, (*ended, "size_bytes", "sha256", "content_type"))
    # Of one that did not come nothing new is known: its bytes are what they were.
    await _upsert(change.connection, [row for row in in_order if row["state"] != "SYNCED"], ended)


def _row(outcome: Outcome, job_id: str, now: datetime) -> dict[str, object]:
    return {
        "id": outcome.media_id,
        "state": outcome.state,
        "size_bytes": outcome.size_bytes,
        "sha256": outcome.sha256,
        "content_type": outcome.content_type,
        "error": outcome.error.SerializeToString() if outcome.error is not None else None,
        "sync_time": now,
        "job_id": job_id,
    }


async def _upsert(connection: Connection, rows: list[dict[str, object]], told: Sequence[str]) -> None:
    if not rows:
        return
    upsert = upsert_sqlite if connection.dialect_name == "sqlite" else upsert_postgresql
    statement = upsert(media_items)
    statement = statement.on_conflict_do_update(
        index_elements=["id"], set_={name: statement.excluded[name] for name in told}
    )
    await connection.execute(statement, rows)


async def page(
    connection: Connection, state: str, media_ids: Sequence[str], after: str, limit: int
) -> list[dataset_pb2.MediaItem]:
    """Items by id from the one after `after` on, in `state` and of `media_ids` unless these are empty."""
    query = select(media_items).where(media_items.c.id > after).order_by(media_items.c.id).limit(limit)
    if state:
        query = query.where(media_items.c.state == state)
    if media_ids:
        query = query.where(media_items.c.id.in_(media_ids))
    return [_item(row) for row in (await connection.execute(query)).mappings()]


def _item(row: RowMapping) -> dataset_pb2.MediaItem:
    synced: datetime | None = row["sync_time"]
    return dataset_pb2.MediaItem(
        id=row["id"],
        state=dataset_pb2.MediaItemState.Value(f"MEDIA_ITEM_STATE_{row['state']}"),
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        content_type=row["content_type"],
        error=status_pb2.Status.FromString(row["error"]) if row["error"] is not None else None,
        sync_time=timestamp(synced) if synced is not None else None,
        job=names.job_name(row["job_id"]),
    )


def media_ids_of(job: job_pb2.Job) -> Sequence[str]:
    """Ids of the media store's images that a job names."""
    images = images_of(job)
    return images.media_store.ids if images is not None else ()
