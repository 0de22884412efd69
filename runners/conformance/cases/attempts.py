"""Attempts that are given, given again, taken away and cancelled."""

import time

import grpc

from runners.conformance.case import Case, World
from runners.conformance.observed import Failed, Play, cut
from visionmesh import errors
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import runner_pb2, vision_pb2

GRACE_SECONDS = 5


async def superseded(world: World) -> str:
    """Another attempt has begun: the stream ends with ABORTED."""
    attempt = await world.started()
    attempt.progress.plays.append(Play(refusal=errors.superseded(attempt.job, attempt.number)))
    world.scheduler.cut(attempt.progress)
    return await world.dropped(attempt, "R11")


async def superseded_amid(world: World) -> str:
    """The same in the midst of an open stream."""
    attempt = world.training(1000)
    attempt.progress.plays.append(Play(refuse_at=(5, errors.superseded(attempt.job, attempt.number))))
    await world.assign(attempt)
    await world.until(lambda: attempt.progress.highest >= 5, "R6", "the fifth update")
    return await world.dropped(attempt, "R11")


async def not_found(world: World) -> str:
    """The job was deleted."""
    attempt = await world.started()
    attempt.progress.plays.append(Play(refusal=errors.not_found("job", attempt.job)))
    world.scheduler.cut(attempt.progress)
    return await world.dropped(attempt, "R11")


async def killed(world: World) -> str:
    """heartbeat_stored says that the attempt is somebody else's."""
    attempt = await world.started()
    attempt.is_unwanted = True
    return await world.dropped(attempt, "R18")


async def not_kept(world: World) -> str:
    """The control stream breaks, and registered does not keep the attempt."""
    attempt = await world.started()
    connections = len(world.scheduler.connections)
    world.scheduler.say_message(cut())
    attempt.is_unwanted = True
    await world.until(lambda: len(world.scheduler.connections) > connections, "R18", "another register")
    await world.until(world.is_connected, "R2", "its heartbeat")
    return await world.dropped(attempt, "R18")


async def kept(world: World) -> str:
    """The control stream breaks, and registered keeps the attempt: its streams are not disturbed."""
    attempt = await world.started()
    connections = len(world.scheduler.connections)
    world.scheduler.say_message(cut())
    await world.until(lambda: len(world.scheduler.connections) > connections, "R18", "another register")
    named = [(ref.job, ref.attempt) for ref in world.scheduler.connection.register.attempts]
    if (attempt.job, attempt.number) not in named:
        raise Failed("R18", f"register names {named}, without the attempt that it has")
    await world.until(world.is_connected, "R2", "its heartbeat")
    before = attempt.progress.highest
    await world.until(lambda: attempt.progress.highest > before, "R18", "another update of a kept attempt")
    return f"went on after update {before}"


async def cancelled(world: World) -> str:
    """A user cancels the job."""
    attempt = await world.started()
    cancel = runner_pb2.CancelAttempt(
        job=attempt.job, attempt=attempt.number, cause=vision_pb2.ATTEMPT_CAUSE_CANCELLED
    )
    cancel.grace_period.FromSeconds(GRACE_SECONDS)
    began = time.monotonic()
    world.scheduler.say(cancel_attempt=cancel)
    await world.until(lambda: attempt.end is not None, "R19", "attempt_ended", GRACE_SECONDS + 10.0)
    end = attempt.end
    if end is None or end.outcome != vision_pb2.ATTEMPT_STATE_CANCELLED:
        raise Failed("R19", f"a cancelled attempt ended so: {end}")
    await world.unnamed(attempt, "R19")
    return f"CANCELLED after {time.monotonic() - began:.1f} s of {GRACE_SECONDS} s grace"


async def assigned_twice(world: World) -> str:
    """The answer to an assignment got lost, so it comes again."""
    attempt = world.training()
    await world.assign(attempt)
    answered = len(attempt.replies)
    world.scheduler.say(assignment=attempt.assignment)
    await world.until(lambda: len(attempt.replies) > answered, "R3", "a second answer")
    if not attempt.replies[-1].accepted:
        raise Failed("R3", "the second time it was refused")
    await world.succeeded(attempt, "R3")
    if len(attempt.updates("attempt_started")) != 1:
        raise Failed("R3", "it was started twice")
    return "accepted twice, run once"


async def beyond_slots(world: World) -> str:
    """More is assigned than the runner has slots."""
    slots = world.scheduler.connection.register.capacity.slots
    taken = [await world.started() for _ in range(slots)]
    one_more = world.training()
    world.scheduler.say(assignment=one_more.assignment)
    await world.until(lambda: one_more.replies, "R4", "an answer to what does not fit")
    reply = one_more.replies[-1]
    if reply.accepted or not reply.reason:
        raise Failed("R4", f"with {slots} slots taken one more was answered so: {reply}")
    before = taken[0].progress.highest
    await world.until(lambda: taken[0].progress.highest > before, "R4", "another update of what runs")
    return f"refused: {reply.reason}"


async def unknown_message(world: World) -> str:
    """A newer scheduler says something of a kind that this runner cannot know."""
    newer = runner_pb2.ConnectResponse.FromString(b"\xfa\x07\x02\x08\x01")  # field 127
    streams = len(world.scheduler.connections)
    world.scheduler.say_message(newer)
    attempt = world.training()
    await world.assign(attempt)
    await world.succeeded(attempt, "R21")
    if len(world.scheduler.connections) != streams:
        raise Failed("R21", "the control stream was opened again")
    return "passed over"


async def damaged_input(world: World) -> str:
    """A byte of an input is wrong on its way."""
    attempt = world.training(salt="damaged")
    world.scheduler.damages = 1
    await world.assign(attempt)
    await world.succeeded(attempt, "R24")
    if attempt.fetches < 2:
        raise Failed("R24", f"{attempt.fetches} calls of FetchObject, the first with a wrong byte")
    return f"fetched in {attempt.fetches} calls"


async def lost_store(world: World) -> str:
    """An attempt loses its streams for a moment to a busy scheduler, which asks for patience."""
    attempt = world.training()
    busy = MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.STORE_FULL, "The disk is full for a moment.")
    attempt.progress.plays.extend([Play(refuse_at=(2, busy)), Play(refuse_at=(2, busy))])
    await world.assign(attempt)
    await world.succeeded(attempt, "R10")
    return f"went on after {len(attempt.progress.openings) - 1} refusals"


ATTEMPTS = (
    Case("superseded", ("R11",), "refuses an opening with ABORTED", superseded),
    Case("superseded-amid", ("R11",), "ends an open stream with ABORTED", superseded_amid),
    Case("not-found", ("R11",), "refuses with NOT_FOUND", not_found),
    Case("kill", ("R18",), "names the attempt in kill", killed),
    Case("not-kept", ("R18",), "leaves the attempt out of keep", not_kept),
    Case("kept", ("R18", "R2"), "breaks the control stream, keeps the attempt", kept),
    Case("cancel", ("R19",), "cancels with 5 s of grace", cancelled),
    Case("assigned-twice", ("R3",), "assigns the same attempt twice", assigned_twice),
    Case("beyond-slots", ("R4",), "assigns one more than there are slots", beyond_slots),
    Case("unknown-message", ("R21",), "says what only a newer scheduler would", unknown_message),
    Case("damaged-input", ("R24",), "flips a bit of an input once", damaged_input),
    Case("store-full", ("R10",), "refuses with STORE_FULL twice", lost_store),
)
