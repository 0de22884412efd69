"""Wakes those who wait, inside one scheduler process.

A wake-up is a hint and carries nothing: whoever wakes reads the store. Losing one costs only
latency, because every waiter also looks by itself from time to time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import grpc

from scheduler.store.record import Effects, Stop
from visionmesh.errors import MeshError, Reason

ANY_JOB = "jobs"
"""Topic: some job changed."""

QUEUE = "queue"
"""Topic: a job may be claimed, or a place on a runner is free."""

SWEEP = "sweep"
"""Topic: a job ended, or waits for a moment in time."""


_JOB = "job:"
_COME_BACK = timedelta(milliseconds=100)


def job_topic(job_id: str) -> str:
    """Topic: one job changed."""
    return _JOB + job_id


class Subscription:
    """Remembers whether its topic was woken since it was last waited for."""

    def __init__(self, moment: int = 0) -> None:
        self.moment = moment
        """When it was woken last, in wake-ups of the hub: what was read since then is new enough."""
        self._woken = asyncio.Event()

    def wake(self, moment: int = 0) -> None:
        """Let the next or present wait return."""
        self.moment = moment
        self._woken.set()

    def has_read(self, moment: int) -> bool:
        """Whether nothing has woken it after `moment`, when a read began; then the next wait waits."""
        if self.moment > moment:
            return False
        self._woken.clear()
        return True

    async def wait(self, timeout: float) -> None:
        """Return when woken, or after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        self._woken.clear()


class Hub:
    """Who waits for what."""

    def __init__(self) -> None:
        self._topics: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._stop_listeners: dict[str, Callable[[Stop], None]] = {}
        self.moment = 0
        """How often anything was woken: a clock of hints."""
        self._closing = False

    def close(self) -> None:
        """The scheduler is about to stop: wake everybody, so that they hear of it."""
        self._closing = True
        for topic in self._topics:
            self.wake(topic)

    def check_open(self) -> None:
        """Raise UNAVAILABLE, with the time to come back, if the scheduler is about to stop."""
        if self._closing:
            raise MeshError(
                grpc.StatusCode.UNAVAILABLE,
                Reason.UNAVAILABLE,
                "This scheduler is about to stop. Resume after the last message received.",
                retry_delay=_COME_BACK,
            )

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription]:
        """Listen to a topic. Subscribe before reading, or a change in between is missed."""
        subscription = Subscription(self.moment)
        self._topics[topic].add(subscription)
        try:
            yield subscription
        finally:
            self._topics[topic].discard(subscription)
            if not self._topics[topic]:
                del self._topics[topic]

    @contextmanager
    def listen_for_stops(self, runner_id: str, listener: Callable[[Stop], None]) -> Iterator[None]:
        """Call `listener` when an attempt on the runner is to be stopped."""
        self._stop_listeners[runner_id] = listener
        try:
            yield
        finally:
            if self._stop_listeners.get(runner_id) is listener:
                del self._stop_listeners[runner_id]

    def wake(self, topic: str) -> None:
        """Wake everybody who listens to a topic."""
        self.moment += 1
        for subscription in self._topics.get(topic, ()):
            subscription.wake(self.moment)

    def watched_jobs(self) -> list[str]:
        """Ids of the jobs that somebody listens to."""
        return [topic.removeprefix(_JOB) for topic in self._topics if topic.startswith(_JOB)]

    def publish(self, effects: Effects) -> None:
        """Wake everybody whom a committed change concerns."""
        for job_id in effects.changed:
            self.wake(job_topic(job_id))
        if effects.changed:
            self.wake(ANY_JOB)
        if effects.claimable:
            self.wake(QUEUE)
        if effects.ended or effects.timed:
            self.wake(SWEEP)
        for stop in effects.stops:
            listener = self._stop_listeners.get(stop.runner_id)
            if listener is not None:
                listener(stop)
