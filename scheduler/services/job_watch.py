"""WatchJobs: the present state of each job, then each change; the latest state is promised.

A change is found by its update time. Transactions on other replicas may commit out of that order, so
each look begins where the oldest began that was under way at the look before, and passes over what was
sent already. That makes the resume token a moment, and a resumed watch may repeat a state; it never
misses the latest one.
"""

from datetime import UTC, datetime
from typing import Any

import grpc

from scheduler.admission.filters import parse_filter
from scheduler.hub import ANY_JOB, Hub
from scheduler.lookout import POLL_SECONDS
from scheduler.services import pages
from scheduler.services.tail import Patience
from scheduler.services.writer import WatchWriter
from scheduler.store import listing
from scheduler.store.schema import instant, micros
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.v1 import job_pb2, vision_pb2

PAGE = 200
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class JobWatch:
    """One call of WatchJobs."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        patience: Patience,
        context: "grpc.aio.ServicerContext[Any, Any]",
        filter_text: str,
    ) -> None:
        self._store, self._hub, self._patience = store, hub, patience
        self._writer = WatchWriter(context, patience.stalled)
        self._filter, self._terms = filter_text, parse_filter(filter_text)
        self._sent: dict[str, str] = {}  # job id to etag
        self._matched: dict[str, bool] = {}  # whether the job was sent, and not as `left` since
        self._resumed = False

    async def follow(self, resume_token: str) -> None:
        """Send until the caller leaves. Raises UNAVAILABLE when the scheduler is about to stop."""
        start = pages.decode(resume_token, self._filter, (int,), "resume_token")
        since = instant(start[0]) if start else _BEGINNING
        self._resumed = start is not None
        with self._hub.subscribe(ANY_JOB) as subscription:
            since = await self._look(since, with_deleted=self._resumed)
            await self._bookmark(since)
            while True:
                await subscription.wait(min(POLL_SECONDS, self._patience.bookmark))
                self._hub.check_open()
                since = await self._look(since, with_deleted=True)
                if self._writer.quiet_seconds >= self._patience.bookmark:
                    await self._bookmark(since)

    async def _look(self, since: datetime, with_deleted: bool) -> datetime:
        """Send what changed since a moment; returns that from which on there may be more."""
        settled = await self._store.settled()  # before anything is read
        newest, after_id = since, ""
        moment = since
        while True:
            async with self._store.read() as connection:
                changed = await listing.changed_since(connection, moment, after_id, PAGE)
                ids = [names.job_id(job.name) for job in changed.items]
                matching = await listing.matching(connection, self._terms, ids)
            for job in changed.items:
                moment = job.update_time.ToDatetime(tzinfo=UTC)
                newest = min(max(newest, moment), settled)
                await self._tell(job, names.job_id(job.name) in matching, newest)
                after_id = names.job_id(job.name)
            if not changed.more:
                break
        if with_deleted:
            async with self._store.read() as connection:
                gone = await listing.deleted_since(connection, since)
            for moment, job_id in gone:
                newest = min(max(newest, moment), settled)
                if self._matched.get(job_id, self._resumed):
                    self._matched[job_id] = False
                    await self._send(newest, left=names.job_name(job_id))
        return newest

    async def _tell(self, job: job_pb2.Job, matches: bool, now: datetime) -> None:
        job_id = names.job_id(job.name)
        if self._sent.get(job_id) == job.etag:
            return
        # A resumed watch does not know what it sent before: whatever changed may have matched then.
        matched = self._matched.get(job_id, self._resumed)
        self._sent[job_id], self._matched[job_id] = job.etag, matches
        if matches:
            await self._send(now, job=job)
        elif matched:
            await self._send(now, left=job.name)

    async def _bookmark(self, now: datetime) -> None:
        await self._send(now, bookmark=vision_pb2.Bookmark())

    async def _send(self, now: datetime, **message: Any) -> None:
        token = pages.encode(self._filter, [micros(now)])
        response = job_pb2.WatchJobsResponse(resume_token=token, **message)
        await self._writer.write(response)
