"""One runner's control stream: heartbeats in, assignments and stops out.

The session writes from one task only; whatever is to be said goes through its queue. Claims are
made by a task of their own whenever a place is free and something may be waiting.

While the database is away the stream stays, and what is to be stored is tried again: the runner's
lease ends only when a sweep has seen nobody renew it, and none succeeds meanwhile. It is heard all the
time, so its lease does not end before it could be renewed.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from scheduler.core.model import AttemptState, Cause
from scheduler.hub import QUEUE, Hub
from scheduler.inputs import InputResolver
from scheduler.settings import Settings
from scheduler.store import claims, runners
from scheduler.store.passing import PASSING, persistently
from scheduler.store.places import Lane
from scheduler.store.present import timestamp
from scheduler.store.record import Stop
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.errors import MeshError, Reason, invalid
from visionmesh.v1 import runner_pb2, vision_pb2

T = TypeVar("T")

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
LEAVE_SECONDS = 10.0
"""Time that a runner has to go once it was asked to connect anew: it is given no work meanwhile."""

_DEFAULT_GRACE = timedelta(seconds=30)


class Session:
    """A connected runner."""

    def __init__(
        self,
        register: runner_pb2.Register,
        store: Store,
        hub: Hub,
        resolver: InputResolver,
        settings: Settings,
        heard: Callable[[str], None],
    ) -> None:
        self.runner_id, self.incarnation = register.runner_id, register.incarnation
        self._register, self._store, self._hub = register, store, hub
        self._resolver, self._settings, self._heard = resolver, settings, heard
        self._outbox: asyncio.Queue[runner_pb2.ConnectResponse] = asyncio.Queue()
        self._answers: dict[tuple[str, int], asyncio.Future[runner_pb2.AssignmentReply]] = {}
        self._told_to_stop: set[tuple[str, int]] = set()
        self._offers: set[asyncio.Task[None]] = set()
        self._leaving = asyncio.Event()
        self._said = asyncio.Event()
        self._heartbeat: runner_pb2.Heartbeat | None = None
        """The newest that is not stored."""
        self._draining = False
        """Whether the runner wants no more work, and that is not stored."""
        self._unnamed: set[tuple[str, int]] = set()
        """Attempts that the newest heartbeat should have named and has not."""

    async def run(
        self,
        requests: AsyncIterator[runner_pb2.ConnectRequest],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> None:
        """Serve the stream until it ends. Raises RUNNER_SUPERSEDED."""
        await self._welcome()
        with self._hub.listen_for_stops(self.runner_id, self._stop):
            try:
                async with asyncio.TaskGroup() as group:
                    works = (self._write(context), self._claim(), self._age(), self._record())
                    tasks = [group.create_task(work) for work in works]
                    await self._read(requests)
                    for task in tasks:
                        task.cancel()
            except* MeshError as errors:
                raise errors.exceptions[0] from None
            finally:
                for offer in self._offers:
                    offer.cancel()
                await self._left()

    def send_away(self, delay: timedelta) -> None:
        """Ask the runner to connect anew, on another replica if there is one, after `delay` at least."""
        self._leaving.set()  # what it is offered from now on would miss it
        reconnect = runner_pb2.Reconnect()
        reconnect.delay.FromTimedelta(delay)
        self.say(runner_pb2.ConnectResponse(reconnect=reconnect))

    async def _age(self) -> None:
        """Send the runner away now and then, so that runners spread over the replicas that there are.

        Raises UNAVAILABLE if it has not gone some time after it was sent away.
        """
        age = self._settings.max_connection_age_seconds * random.uniform(0.8, 1.0)  # noqa: S311 - no secret
        try:
            async with asyncio.timeout(age or None):
                await self._leaving.wait()
        except TimeoutError:
            self.send_away(timedelta(0))
        await asyncio.sleep(LEAVE_SECONDS)
        text = "The runner was asked to connect anew and has not gone. Connect anew."
        raise MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, text)

    def say(self, response: runner_pb2.ConnectResponse) -> None:
        """Queue something to be sent."""
        self._outbox.put_nowait(response)

    async def _welcome(self) -> None:
        for ref in self._register.attempts:
            _key(ref)
        self._heard(self.runner_id)
        async with self._store.change(Lane.RUNNERS) as change:
            keep = await runners.register(change, self._register, self._settings.lease)
            self._connect_time = change.now
        log.info("runner registered", runner=self.runner_id, keeps=len(keep))
        heartbeat = Duration()
        heartbeat.FromTimedelta(timedelta(seconds=self._settings.heartbeat_seconds))
        lease = Duration()
        lease.FromTimedelta(self._settings.lease)
        welcome = runner_pb2.Registered(
            runner=names.runner_name(self.runner_id),
            heartbeat_interval=heartbeat,
            lease_duration=lease,
            keep=[_ref(job_id, number) for job_id, number in keep],
        )
        self.say(runner_pb2.ConnectResponse(registered=welcome))

    async def _left(self) -> None:
        """Leave, even if cancelled meanwhile: a dead link ends the stream, and a moment later the call."""
        leaving = asyncio.create_task(self._leave())
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await asyncio.wait([leaving])
            raise

    async def _leave(self) -> None:
        try:
            async with self._store.change(Lane.RUNNERS) as change:
                await runners.disconnect(change, self.runner_id, self._connect_time)
        except PASSING as error:  # its lease runs on, and ends if it does not come back
            log.warning("departure not noted", runner=self.runner_id, why=error.message)
        log.info("runner disconnected", runner=self.runner_id)

    async def _write(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        while True:
            await context.write(await self._outbox.get())

    async def _read(self, requests: AsyncIterator[runner_pb2.ConnectRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "heartbeat":
                    self._heard(self.runner_id)
                    self._heartbeat = request.heartbeat
                    self._said.set()
                case "assignment_reply":
                    reply = request.assignment_reply
                    answer = self._answers.get(_key(reply))
                    if answer is not None and not answer.done():
                        answer.set_result(reply)
                case "draining":
                    self._draining = True
                    self._said.set()
                case _:
                    log.warning("message ignored", runner=self.runner_id)

    async def _record(self) -> None:
        """Store what the runner says, the newest heartbeat alone if several wait.

        Beside the reading: a runner must be heard while the database is away.
        """
        while True:
            await self._said.wait()
            self._said.clear()
            if self._draining:
                await persistently(self._store_draining)
            if self._heartbeat is not None:
                await persistently(self._store_heartbeat)

    async def _store_draining(self) -> None:
        async with self._store.change(Lane.RUNNERS) as change:
            await runners.set_stopping(change, self.runner_id, self.incarnation)
        self._draining = False

    async def _store_heartbeat(self) -> None:
        heartbeat = self._heartbeat or runner_pb2.Heartbeat()
        named = {_key(ref) for ref in heartbeat.attempts}
        async with self._store.change(Lane.LEASES) as change:
            renewed = runners.heartbeat(
                change, self.runner_id, self.incarnation, self._connect_time, self._settings.lease
            )
            until = await renewed
            held = {a.key: a for a in await runners.live_attempts(change.connection, self.runner_id)}
        if self._heartbeat is heartbeat:
            self._heartbeat = None
        stored = runner_pb2.HeartbeatStored(
            lease_expire_time=timestamp(until), kill=[_ref(*key) for key in sorted(named - held.keys())]
        )
        self.say(runner_pb2.ConnectResponse(heartbeat_stored=stored))
        for key in named & held.keys():
            # A cancel that another replica took, or that came while the runner was away.
            if held[key].state is AttemptState.CANCELLING and key not in self._told_to_stop:
                self._stop(Stop(self.runner_id, *key, _DEFAULT_GRACE, Cause.CANCELLED))
        await self._lose_unnamed({key: a for key, a in held.items() if key not in named})

    async def _lose_unnamed(self, unnamed: dict[tuple[str, int], runners.LiveAttempt]) -> None:
        """Give up the attempts that two heartbeats in a row did not name; the first may have been too early.

        So it is with what ended for the runner, when the database was restored to a time before that.
        """
        taken = {key for key, attempt in unnamed.items() if attempt.state is not AttemptState.ASSIGNED}
        gone = [unnamed[key] for key in sorted(taken & self._unnamed)]
        self._unnamed = taken
        if gone:
            await persistently(lambda: self._lose(gone))

    async def _lose(self, gone: list[runners.LiveAttempt]) -> None:
        async with self._store.change(Lane.RUNNERS) as change:
            await change.jobs(attempt.job_id for attempt in gone)
            for attempt in gone:
                log.warning("attempt gone", runner=self.runner_id, job=attempt.job_id, attempt=attempt.number)
                why = f"runner {names.runner_name(self.runner_id)} does not have it any more"
                await runners.lose(change, attempt, why)

    def _stop(self, stop: Stop) -> None:
        self._told_to_stop.add((stop.job_id, stop.attempt))
        cancel = runner_pb2.CancelAttempt(
            job=names.job_name(stop.job_id),
            attempt=stop.attempt,
            cause=vision_pb2.AttemptCause.Value(f"ATTEMPT_CAUSE_{stop.cause}"),
        )
        cancel.grace_period.FromTimedelta(stop.grace_period)
        self.say(runner_pb2.ConnectResponse(cancel_attempt=cancel))

    async def _claim(self) -> None:
        with self._hub.subscribe(QUEUE) as queue:
            while not self._leaving.is_set():
                claim = await persistently(self._try_claim)
                if claim is None:
                    await queue.wait(POLL_SECONDS)
                    continue
                offer = asyncio.create_task(self._offer(claim))
                self._offers.add(offer)
                offer.add_done_callback(self._offers.discard)

    async def _try_claim(self) -> claims.Claim | None:
        reserve_after = timedelta(seconds=self._settings.reserve_seconds)
        async with self._store.change() as change:
            return await claims.claim(change, self.runner_id, self._connect_time, reserve_after)

    async def _offer(self, claim: claims.Claim) -> None:
        """Send an assignment and store the answer; take it back if there is none in time."""
        key = (claim.job_id, claim.attempt)
        try:
            assignment = await persistently(lambda: self._resolver.assignment(claim))
        except MeshError as error:
            await self._settle(partial(runners.refuse_inputs, error=error), key)
            return
        answer = self._answers[key] = asyncio.get_running_loop().create_future()
        self.say(runner_pb2.ConnectResponse(assignment=assignment))
        why = "the runner did not answer the assignment"
        try:
            async with asyncio.timeout(self._settings.assignment_seconds):
                reply = await answer
            if reply.accepted:
                await self._accept(key)
                return
            why = reply.reason or "the runner refused the assignment"
        except TimeoutError:
            pass
        finally:
            del self._answers[key]
        log.warning("assignment taken back", runner=self.runner_id, job=claim.job_id, why=why)
        await self._settle(partial(runners.take_back, why=why), key)

    async def _accept(self, key: tuple[str, int]) -> None:
        if not await self._settle(runners.accept, key):
            self._stop(Stop(self.runner_id, *key, timedelta(0), Cause.CANCELLED))

    async def _settle(self, change_attempt: Callable[..., Awaitable[T]], key: tuple[str, int]) -> T:
        """Store what became of an offer."""

        async def store() -> T:
            async with self._store.change(Lane.RUNNERS) as change:
                return await change_attempt(change, *key)

        return await persistently(store)


def _key(ref: runner_pb2.AttemptRef | runner_pb2.AssignmentReply) -> tuple[str, int]:
    """Job and attempt. Raises INVALID_ARGUMENT if it names no job."""
    if not re.fullmatch(r"jobs/[^/]+", ref.job):
        raise invalid(Reason.INVALID_ARGUMENT, "job", f"must have the form jobs/{{job}}, got {ref.job!r}")
    return names.job_id(ref.job), ref.attempt


def _ref(job_id: str, number: int) -> runner_pb2.AttemptRef:
    return runner_pb2.AttemptRef(job=names.job_name(job_id), attempt=number)
