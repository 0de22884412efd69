"""Pages of histories, read once for all who want the same.

A thousand watchers of one job ask for the same page at the same moment. A page with something in it
never changes and is kept for those who are a little behind; an empty one is good until the next
wake-up. There are never more pages kept than watchers.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from scheduler.hub import Hub
from scheduler.store import history
from scheduler.store.engine import Connection
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.errors import not_found

PAGE = 200
PAGE_BYTES = 128 * 1024
"""What one watcher holds at most while it does not read, or one event if that is larger."""

MOST_KEPT = 16
"""Pages of one job that are kept for others at most."""

Read: TypeAlias = Callable[[Connection, str, int, int, int], Awaitable[history.Slice[tuple[int, Any]]]]
"""Messages of a job after a sequence, each with its own: so many at most, of so many bytes."""


@dataclass(frozen=True)
class Page:
    """What comes after a sequence."""

    items: list[tuple[int, bytes]]
    """Each with its sequence, ready to be sent to many."""

    more: bool
    position: history.Position
    moment: int
    """Of the hub, when the read began."""


class JobPages:
    """Pages of one job."""

    def __init__(self, store: Store, hub: Hub, read: Read, job_id: str) -> None:
        self._store, self._hub, self._read, self._job_id = store, hub, read, job_id
        self.watchers = 0
        self._kept: OrderedDict[int, Page] = OrderedDict()
        self._reading: dict[int, asyncio.Task[Page]] = {}

    async def after(self, told: int, moment: int) -> Page:
        """What comes after `told`. Raises MeshError.

        Nothing that was kept from before `moment` is read anew; a read on its way may be older too.
        """
        kept = self._kept.get(told)
        if kept is not None and (kept.items or kept.moment >= moment):
            return kept
        if told not in self._reading:
            self._reading[told] = asyncio.create_task(self._fetch(told))
        return await asyncio.shield(self._reading[told])

    async def _fetch(self, told: int) -> Page:
        try:
            async with self._store.read() as connection:
                moment = self._hub.moment
                position = await history.position(connection, self._job_id)
                if position is None:
                    raise not_found("job", names.job_name(self._job_id))
                rows = await self._read(connection, self._job_id, told, PAGE, PAGE_BYTES)
        except BaseException:
            self._kept.clear()  # the job is gone, or the database, which may come back as another one
            raise
        finally:
            del self._reading[told]
        items = [(sequence, message.SerializeToString()) for sequence, message in rows.items]
        page = Page(items, rows.more, position, moment)
        self._keep(told, page)
        return page

    def _keep(self, told: int, page: Page) -> None:
        self._kept.pop(told, None)
        self._kept[told] = page
        while len(self._kept) > min(self.watchers, MOST_KEPT):
            self._kept.popitem(last=False)


class SharedReads:
    """The pages of every job that is watched."""

    def __init__(self, store: Store, hub: Hub, read: Read) -> None:
        self._store, self._hub, self._read = store, hub, read
        self._jobs: dict[str, JobPages] = {}

    @contextmanager
    def of(self, job_id: str) -> Iterator[JobPages]:
        """The pages of a job, as long as somebody uses them."""
        if job_id not in self._jobs:
            self._jobs[job_id] = JobPages(self._store, self._hub, self._read, job_id)
        pages = self._jobs[job_id]
        pages.watchers += 1
        try:
            yield pages
        finally:
            pages.watchers -= 1
            if not pages.watchers:
                del self._jobs[job_id]
