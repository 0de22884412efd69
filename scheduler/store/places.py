"""Who waits for whom at the database.

Each lane has places of its own, so that callers, however many and slow, never stand in the way of
what keeps leases alive and takes in what runners report. Whoever gets no place in time is sent away.
"""

import asyncio
from collections.abc import Mapping
from enum import Enum, auto

PLACE_SECONDS = 5.0
"""Longest wait for a place."""


class Lane(Enum):
    """What a transaction is for."""

    READS = auto()
    """Calls and watches that read."""

    CALLS = auto()
    """Calls that write, and claims."""

    RUNNERS = auto()
    """Registrations, what runners report and store, and what is due."""

    LEASES = auto()
    """Heartbeats, which wait for no job's row."""

    HEALTH = auto()
    """The look whether the database is there."""


class NoPlace(Exception):
    """All places of a lane were taken for too long."""


class Places:
    """How many transactions are under way, by lane."""

    def __init__(self, counts: Mapping[Lane, int], *, one_writer: bool) -> None:
        """With `one_writer` those of all lanes that write go one by one."""
        self._lanes = {lane: asyncio.Semaphore(count) for lane, count in counts.items()}
        self._writer = asyncio.Semaphore(1) if one_writer else None

    async def take(self, lane: Lane, *, writing: bool) -> None:
        """Wait for a place. Raises NoPlace."""
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                await self._take(lane, writing)
        except TimeoutError:
            raise NoPlace from None

    async def _take(self, lane: Lane, writing: bool) -> None:
        await self._lanes[lane].acquire()
        try:
            if writing and self._writer is not None:
                await self._writer.acquire()
        except BaseException:
            self._lanes[lane].release()
            raise

    def give_back(self, lane: Lane, *, writing: bool) -> None:
        """Let the next one in."""
        self._lanes[lane].release()
        if writing and self._writer is not None:
            self._writer.release()
