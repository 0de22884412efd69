"""Where files of jobs lie in the artifact store.

An attempt writes below attempts/{job}/{attempt}/, so that two attempts never touch the same
object. When one succeeds the job's files are published last, under the paths that people and other
programs know: checkpoints/{job}/best.pt, validation/{job}/confusion_matrix.png, inference/{job}/….
"""

import re

from sqlalchemy import select

from scheduler.store import history
from scheduler.store.schema import jobs
from scheduler.store.store import Store
from visionmesh.storage import ObjectStore

FOLDERS = {
    "train": "checkpoints/{job}/",
    "validate": "validation/{job}/",
    "infer": "inference/{job}/",
    "embed": "jobs/{job}/",
    "detect_faces": "jobs/{job}/",
    "embed_faces": "jobs/{job}/",
}


def attempt_prefix(job_id: str, attempt: int) -> str:
    """Where an attempt writes."""
    return f"attempts/{job_id}/{attempt}/"


def job_prefixes(kind: str, job_id: str) -> tuple[str, ...]:
    """Every place where a job may have files."""
    return f"attempts/{job_id}/", FOLDERS[kind].format(job=job_id)


class Publisher:
    """Copies the files of a successful attempt to where people look for them."""

    def __init__(self, store: Store, artifacts: ObjectStore) -> None:
        self._store, self._artifacts = store, artifacts

    async def publish(self, job_id: str, attempt: int) -> None:
        """Copy; may be repeated. Sources stay, and stay what Artifact.uri says.

        What an earlier attempt left, and this one went on from without making it anew, belongs to it:
        the best checkpoint of a training that did not improve after it was resumed.
        """
        async with self._store.read() as connection:
            newest = select(jobs.c.kind).where(jobs.c.id == job_id, jobs.c.attempt == attempt)
            kind = (await connection.execute(newest)).scalar()
            found = [artifact async for artifact in history.every_artifact(connection, job_id)]
        if kind is None:
            return  # superseded: its end is about to be refused
        folder = FOLDERS[kind].format(job=job_id)
        for artifact in found:
            key = self._artifacts.key_of(artifact.uri) or ""
            if path := _within_attempt(job_id, key):
                await self._artifacts.copy(key, folder + path)


def _within_attempt(job_id: str, key: str) -> str:
    """The path of a file below the folder of its attempt; empty if the key is no attempt's."""
    found = re.fullmatch(rf"attempts/{re.escape(job_id)}/\d+/(.+)", key)
    return found[1] if found else ""
