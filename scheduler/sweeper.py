"""What happens because time passes: backoffs end, queues and leases time out."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from scheduler.hub import SWEEP, Hub
from scheduler.settings import Settings
from scheduler.store import jobs, runners
from scheduler.store.passing import PASSING, persistently
from scheduler.store.places import Lane
from scheduler.store.schema import micros
from scheduler.store.store import Change, Store
from visionmesh import names

T = TypeVar("T")

log = structlog.get_logger(__name__)

LONGEST_NAP_SECONDS = 1.0
SHORTEST_NAP_SECONDS = 0.005


class Sweeper:
    """Looks after everything that is due."""

    def __init__(self, store: Store, hub: Hub, settings: Settings) -> None:
        self._store, self._hub, self._settings = store, hub, settings
        self._heard: dict[str, float] = {}
        self._leases: dict[str, datetime] = {}
        self._listening_since = self._last_look = time.monotonic()

    def heard(self, runner_id: str) -> None:
        """Note a sign of life of a runner."""
        self._heard[runner_id] = time.monotonic()

    async def run(self) -> None:
        """Sweep until cancelled."""
        with self._hub.subscribe(SWEEP) as subscription:
            while True:
                try:
                    nap = await persistently(self._sweep_and_listen, "what is due")
                except Exception:
                    # A sweep is repeated: one that fails costs only latency.
                    log.exception("sweep failed")
                    nap = LONGEST_NAP_SECONDS
                await subscription.wait(nap)

    async def _sweep_and_listen(self) -> float:
        try:
            return await self.sweep()
        except PASSING:
            # Nor could heartbeats be stored: runners get a full lease to be heard in, from its end on.
            self._listen_anew()
            raise

    async def sweep(self) -> float:
        """Do what is due; returns the seconds until something may be due again.

        Each kind in a transaction of its own, which locks its jobs all at once: locks are taken in one
        order by everybody, so that replicas, streams and sweeps never wait for each other in a circle.
        """
        told = await self._do(jobs.settle_dependencies)
        await self._do(jobs.queue_after_backoff)
        await self._do(jobs.fail_queue_timeouts)
        await self._do(self._take_back_overdue)
        await self._do(self._expire_silent)
        if told:
            return 0.0  # what was told may have ended in turn
        async with self._store.read(Lane.RUNNERS) as connection:
            due = await jobs.next_due(connection)
            now = await self._store.now_of(connection)
        if due is None:
            return LONGEST_NAP_SECONDS
        left = (due - micros(now)) / 1e6
        return min(max(left, SHORTEST_NAP_SECONDS), LONGEST_NAP_SECONDS)

    async def _do(self, work: Callable[[Change], Awaitable[T]]) -> T:
        async with self._store.change(Lane.RUNNERS) as change:
            return await work(change)

    async def _take_back_overdue(self, change: Change) -> None:
        patience = timedelta(seconds=2 * self._settings.assignment_seconds)
        await runners.overdue_assignments(change, change.now - patience)

    async def _expire_silent(self, change: Change) -> None:
        leases = await runners.leases(change.connection)
        self._notice_renewals(leases)
        self._notice_a_gap()
        lost = [
            (runner_id, attempt)
            for runner_id in leases
            if self._silent(runner_id)
            for attempt in await runners.live_attempts(change.connection, runner_id)
        ]
        await change.jobs(attempt.job_id for _, attempt in lost)
        for runner_id, attempt in lost:
            log.warning("lease expired", runner=runner_id, job=attempt.job_id, attempt=attempt.number)
            lease = f"{self._settings.lease_seconds:g} s"
            why = f"{names.runner_name(runner_id)} was silent for its lease of {lease}"
            await runners.lose(change, attempt, why)

    def _notice_a_gap(self) -> None:
        """After a time without sweeps, listen for a full lease anew: a frozen scheduler hears nobody."""
        now = time.monotonic()
        if now - self._last_look > LONGEST_NAP_SECONDS + self._settings.lease_seconds / 2:
            log.warning("was away", seconds=round(now - self._last_look, 1))
            self._listen_anew()
        self._last_look = now

    def _listen_anew(self) -> None:
        self._heard.clear()
        self._listening_since = time.monotonic()

    def _notice_renewals(self, leases: dict[str, datetime]) -> None:
        """A lease that is new or has changed was renewed since the last look, by whichever replica."""
        for runner_id, until in leases.items():
            heard_here = self._heard.get(runner_id, 0.0) >= self._last_look
            if self._leases.get(runner_id) != until and not heard_here:
                self.heard(runner_id)
        self._leases = leases

    def _silent(self, runner_id: str) -> bool:
        """Whether this scheduler has neither heard it nor seen its lease renewed for a full lease.

        By its own steady clock: one that is put forward or back ends no lease and prolongs none. A
        scheduler that was frozen, or has just started, gives runners the time to be heard.
        """
        since = self._heard.get(runner_id, self._listening_since)
        return time.monotonic() - since >= self._settings.lease_seconds
