"""Datasets and uploads."""

from sqlalchemy import delete, insert, select

from scheduler.admission.references import images_of
from scheduler.core.model import TERMINAL
from scheduler.store.engine import Connection
from scheduler.store.schema import datasets, instant, jobs, uploads
from scheduler.store.store import Change
from visionmesh import names
from visionmesh.errors import Reason, not_found, precondition
from visionmesh.v1 import dataset_pb2, job_pb2


async def add_upload(change: Change, upload: dataset_pb2.Upload, key: str) -> None:
    """Store where an upload lies."""
    await change.connection.execute(
        insert(uploads).values(
            id=names.upload_id(upload.name),
            key=key,
            payload=upload.SerializeToString(),
            create_time=change.now,
        )
    )


async def upload(connection: Connection, upload_id: str) -> tuple[dataset_pb2.Upload, str] | None:
    """An upload and its key in the dataset store, or None."""
    row = (await connection.execute(select(uploads).where(uploads.c.id == upload_id))).mappings().first()
    return None if row is None else (dataset_pb2.Upload.FromString(row["payload"]), row["key"])


async def add(change: Change, dataset: dataset_pb2.Dataset) -> None:
    """Store a dataset."""
    await change.connection.execute(
        insert(datasets).values(
            id=names.dataset_id(dataset.name),
            digest=dataset.digest,
            payload=dataset.SerializeToString(),
            create_time=change.now,
        )
    )


async def get(connection: Connection, dataset_id: str) -> dataset_pb2.Dataset | None:
    """One dataset, or None."""
    query = select(datasets.c.payload).where(datasets.c.id == dataset_id)
    row = (await connection.execute(query)).scalar()
    return None if row is None else dataset_pb2.Dataset.FromString(row)


async def page(
    connection: Connection, before: tuple[int, str] | None, limit: int
) -> list[dataset_pb2.Dataset]:
    """Datasets, newest first, from the one after `before` (create time in microseconds, id) on."""
    query = select(datasets.c.payload).order_by(datasets.c.create_time.desc(), datasets.c.id.desc())
    if before is not None:
        moment = instant(before[0])
        query = query.where(
            (datasets.c.create_time < moment)
            | ((datasets.c.create_time == moment) & (datasets.c.id < before[1]))
        )
    rows = (await connection.execute(query.limit(limit))).scalars()
    return [dataset_pb2.Dataset.FromString(row) for row in rows]


async def ids(connection: Connection, limit: int = 1000) -> list[str]:
    """Ids of the newest datasets."""
    query = select(datasets.c.id).order_by(datasets.c.create_time.desc()).limit(limit)
    return list((await connection.execute(query)).scalars())


async def remove(change: Change, dataset_id: str) -> None:
    """Delete a dataset. Raises NOT_FOUND, and DATASET_IN_USE."""
    name = names.dataset_name(dataset_id)
    if await get(change.connection, dataset_id) is None:
        raise not_found("dataset", name)
    query = select(jobs.c.id, jobs.c.spec).where(jobs.c.state.not_in(sorted(TERMINAL)))
    for job_id, spec in (await change.connection.execute(query)).all():
        if name in datasets_of(job_pb2.Job.FromString(spec)):
            job = names.job_name(job_id)
            raise precondition(
                Reason.DATASET_IN_USE,
                f"Dataset {name} is used by {job}. Cancel that job, or wait for it.",
                job=job,
            )
    await change.connection.execute(delete(datasets).where(datasets.c.id == dataset_id))


def datasets_of(job: job_pb2.Job) -> set[str]:
    """Names of the datasets that a job reads."""
    spec = getattr(job, job.WhichOneof("spec") or "train")
    found = {getattr(spec, "dataset", "")}
    images = images_of(job)
    if images is not None:
        found.add(images.dataset_images.dataset)
    return found - {""}
