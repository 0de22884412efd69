"""Sends a growing history: what is stored, then what comes, each once, without a gap."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from scheduler.hub import Hub, job_topic
from scheduler.services.writer import WatchWriter
from scheduler.store import history
from scheduler.store.engine import Connection
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.errors import not_found

PAGE = 200
PAGE_BYTES = 128 * 1024
"""What one watcher holds at most while it does not read, or one event if that is larger."""

POLL_SECONDS = 1.0
"""Watchers look by themselves this often, so that a lost wake-up costs only latency."""


@dataclass(frozen=True)
class Patience:
    """How long a watch waits, in seconds."""

    bookmark: float
    stalled: float


Read = Callable[[Connection, str, int, int, int], Awaitable[history.Slice[tuple[int, Any]]]]


class Tail:
    """One watch of one job."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        patience: Patience,
        context: "grpc.aio.ServicerContext[Any, Any]",
        read: Read,
        bookmark: Callable[[int], Any],
    ) -> None:
        self._store, self._hub, self._patience = store, hub, patience
        self._read, self._bookmark = read, bookmark
        self._writer = WatchWriter(context, patience.stalled)

    async def follow(self, job_id: str, after: int) -> None:
        """Send everything after sequence `after` until the job has ended and all is sent.

        Raises UNAVAILABLE when the scheduler is about to stop, and SLOW_CONSUMER.

        `after` may lie beyond the history, as after a restore of the database: then the watch waits.
        """
        told = after
        with self._hub.subscribe(job_topic(job_id)) as subscription:
            while True:
                self._hub.check_open()
                position, told = await self._send_stored(job_id, told)
                if position.ended and told >= position.sequence:
                    return
                if self._writer.quiet_seconds >= self._patience.bookmark:
                    await self._writer.write(self._bookmark(told))
                await subscription.wait(min(POLL_SECONDS, self._patience.bookmark))

    async def _send_stored(self, job_id: str, told: int) -> tuple[history.Position, int]:
        while True:
            async with self._store.read() as connection:
                position = await history.position(connection, job_id)
                if position is None:
                    raise not_found("job", names.job_name(job_id))
                rows = await self._read(connection, job_id, told, PAGE, PAGE_BYTES)
            for sequence, message in rows.items:
                await self._writer.write(message)
                told = sequence
            if not rows.more:
                # Numbers up to here may belong to the other watch: they are told by being passed over.
                return position, max(told, position.sequence)
