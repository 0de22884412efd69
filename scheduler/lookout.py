"""Looks whether watched jobs have changed, once for all watchers: a lost wake-up costs only latency."""

import asyncio

import structlog

from scheduler.hub import Hub, job_topic
from scheduler.store import history
from scheduler.store.store import Store

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""Time between two looks."""


class Lookout:
    """Wakes whoever watches a job that changed unheard."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store, self._hub = store, hub
        self._seen: dict[str, int] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Wake the watchers of jobs that changed since the last look, or were not watched then.

        While the database cannot be read everybody is woken, to hear of it and to try another scheduler.
        """
        watched = self._hub.watched_jobs()
        found: dict[str, int] = {}
        if watched:
            try:
                async with self._store.read() as connection:
                    found = await history.positions(connection, watched)
            except Exception as error:
                log.warning("look failed", why=str(error))
                self._seen = {}
        for job_id in watched:
            if job_id not in self._seen or self._seen[job_id] != found.get(job_id):
                self._hub.wake(job_topic(job_id))
        self._seen = found
