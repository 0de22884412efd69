"""Images that a job found in folders of a store when it was created.

Its predictions are known by their place in this list, so each attempt has to see the same one, whatever
has come into the folder or gone from it since.
"""

from collections.abc import Iterable

from sqlalchemy import insert, select

from scheduler.admission.references import images_of
from scheduler.store.engine import Connection
from scheduler.store.schema import listed_images
from scheduler.store.store import Change
from visionmesh.v1 import job_pb2


def reads_folders(job: job_pb2.Job) -> bool:
    """Whether a job looks at whatever images lie in a folder."""
    images = images_of(job)
    return images is not None and any(uri.endswith("/") for uri in images.uris.uris)


async def keep(change: Change, job_id: str, uris: Iterable[str]) -> None:
    """Store the list of a new job."""
    payload = job_pb2.ImageUris(uris=uris).SerializeToString()
    await change.connection.execute(insert(listed_images).values(job_id=job_id, payload=payload))


async def of(connection: Connection, job_id: str) -> list[str] | None:
    """The list of a job; None if none is stored."""
    query = select(listed_images.c.payload).where(listed_images.c.job_id == job_id)
    payload = (await connection.execute(query)).scalar()
    return None if payload is None else list(job_pb2.ImageUris.FromString(payload).uris)
