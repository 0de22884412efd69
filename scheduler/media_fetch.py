"""Images of the media store on their way to a runner: some ahead of what is sent, and what became of each."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from google.rpc import status_pb2

from scheduler.media_store import ImageRefused, MediaImage, MediaStore, uri_of
from scheduler.sources import FetchedImage
from scheduler.store import media
from scheduler.store.media import Outcome
from scheduler.store.passing import PASSING
from scheduler.store.store import Store
from visionmesh.errors import MeshError, status_of

AHEAD = 8
"""Images of one call that are fetched at a time, or wait to be sent."""

RECORD_EVERY, RECORD_SECONDS = 200, 2.0
"""After so many images or seconds, what became of them is stored."""

log = structlog.get_logger(__name__)


class MediaFetch:
    """Fetches images of the media store, and keeps the book on them."""

    def __init__(self, images: MediaStore, store: Store) -> None:
        self._images, self._store = images, store

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keeps connections to the media store while it is open."""
        async with self._images.open():
            yield

    async def images(self, job_id: str, media_ids: Sequence[str]) -> AsyncGenerator[FetchedImage, None]:
        """The images in order. Raises UNAVAILABLE if the media store cannot be reached.

        To be closed: what became of the last ones is stored then.
        """
        outcomes: list[Outcome] = []
        began = time.monotonic()
        ahead: deque[asyncio.Task[FetchedImage]] = deque()
        waiting = iter(media_ids)
        try:
            while True:
                while len(ahead) < AHEAD and (media_id := next(waiting, None)) is not None:
                    ahead.append(asyncio.create_task(self._one(media_id, outcomes)))
                if not ahead:
                    return
                yield await ahead.popleft()
                if len(outcomes) >= RECORD_EVERY or time.monotonic() - began > RECORD_SECONDS:
                    began = time.monotonic()
                    await self._record(job_id, outcomes)
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
            await self._record(job_id, outcomes)

    async def _one(self, media_id: str, outcomes: list[Outcome]) -> FetchedImage:
        found: MediaImage | status_pb2.Status
        try:
            found = await self._images.fetch(media_id)
            outcome = Outcome(media_id, "SYNCED", found.size_bytes, found.sha256, found.content_type)
        except ImageRefused as refused:
            found = refused.status
            outcome = Outcome(media_id, "GONE" if refused.gone else "FAILED", error=found)
        except MeshError as away:
            outcomes.append(Outcome(media_id, "PENDING", error=status_of(away)))
            raise
        outcomes.append(outcome)
        return FetchedImage(uri_of(media_id), found)

    async def _record(self, job_id: str, outcomes: list[Outcome]) -> None:
        """Store what became of images; a database that is away costs the images nothing."""
        told = outcomes[:]
        outcomes.clear()
        if not told:
            return
        try:
            async with self._store.change() as change:
                await media.record(change, told, job_id)
        except PASSING as error:
            log.warning("what became of images is not stored", images=len(told), why=error.message)
