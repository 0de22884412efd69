"""Numbers and acknowledgements: what is sent again after what."""

import grpc

from runners.conformance.case import Case, World
from runners.conformance.observed import Attempt, Failed, Play
from visionmesh.errors import MeshError, Reason


async def life(world: World) -> str:
    """Nothing goes wrong."""
    attempt = world.training()
    await world.assign(attempt)
    count = await world.succeeded(attempt, "R13")
    if len(attempt.progress.openings) != 1 or len(attempt.results.openings) != 1:
        raise Failed("R10", "a stream was opened more than once, though nothing happened to it")
    return f"{count} updates, {len(attempt.results.stored)} results"


async def lost_acknowledgement(world: World) -> str:
    """Messages are stored, the stream breaks before the runner hears of it."""
    attempt = world.training()
    attempt.progress.plays.extend([Play(cut_at=2), Play(cut_at=4)])
    attempt.results.plays.append(Play(cut_at=1))
    return await _ends_well(world, attempt, "R10", at_least=3)


async def lower_number(world: World) -> str:
    """The scheduler has lost messages that it had acknowledged."""
    attempt = world.training()
    attempt.progress.plays.extend([Play(cut_at=4), Play(lost=3)])
    attempt.results.plays.extend([Play(cut_at=1), Play(lost=1)])
    return await _ends_well(world, attempt, "R6", at_least=2)


async def repeated_acknowledgements(world: World) -> str:
    """Each acknowledgement comes three times, an older one among them."""
    attempt = world.training()
    attempt.progress.plays.append(Play(repeats=True))
    attempt.results.plays.append(Play(repeats=True))
    return await _ends_well(world, attempt, "R8", at_least=1)


async def alleged_gap(world: World) -> str:
    """A number is refused as if one were missing."""
    attempt = world.training()
    metadata = {"expected_number": "1"}
    gap = MeshError(grpc.StatusCode.OUT_OF_RANGE, Reason.SEQUENCE_GAP, "Number 1 is missing.", metadata)
    attempt.progress.plays.append(Play(refuse_at=(1, gap)))
    return await _ends_well(world, attempt, "R9", at_least=2)


async def refused_openings(world: World) -> str:
    """The scheduler is away for a while; then it takes everything."""
    attempt = world.training()
    away = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "The scheduler starts.")
    attempt.progress.plays.extend([Play(refusal=away)] * 3)
    attempt.results.plays.extend([Play(refusal=away)] * 3)
    seen = await _ends_well(world, attempt, "R10", at_least=4)
    waits = [
        later - sooner
        for sooner, later in zip(attempt.progress.openings, attempt.progress.openings[1:], strict=False)
    ]
    if max(waits) < 0.005:
        raise Failed("R10", f"the stream was opened again without a wait: after {max(waits) * 1000:.1f} ms")
    return seen


async def above_anything(world: World) -> str:
    """The first response states a number that was never sent."""
    attempt = await world.started()
    attempt.progress.plays.append(Play(overstated=1000))
    world.scheduler.cut(attempt.progress)
    return await world.dropped(attempt, "R12")


async def _ends_well(world: World, attempt: Attempt, rule: str, at_least: int) -> str:
    await world.assign(attempt)
    count = await world.succeeded(attempt, rule)
    opened = len(attempt.progress.openings)
    if opened < at_least:
        raise Failed(rule, f"the stream was opened {opened} times, at least {at_least} were due")
    return f"{count} updates once each over {opened} openings"


NUMBERS = (
    Case("life", ("R1", "R2", "R3", "R5", "R6", "R13"), "nothing unusual", life),
    Case(
        "lost-ack", ("R6", "R7", "R10"), "stores, then cuts before the acknowledgement", lost_acknowledgement
    ),
    Case("lower-number", ("R6", "R7"), "states a lower number than it acknowledged", lower_number),
    Case("repeated-acks", ("R8",), "acknowledges the same number three times", repeated_acknowledgements),
    Case("alleged-gap", ("R9",), "refuses with SEQUENCE_GAP and expected_number", alleged_gap),
    Case("away", ("R10",), "refuses three openings with UNAVAILABLE", refused_openings),
    Case("above-anything", ("R12",), "states a number that was never sent", above_anything),
)
