"""Messages that are too large, and a scheduler that takes none."""

import asyncio
from itertools import pairwise

import grpc

from runners.conformance import work
from runners.conformance.case import Case, World
from runners.conformance.observed import Attempt, Failed, Play
from runners.conformance.scheduler import HEARTBEAT_SECONDS
from visionmesh.errors import MeshError, Reason

MOST_REFUSALS = 10
MOST_MEMORY_BYTES = 128 * 1024 * 1024
"""By so much a runner may grow while nothing is acknowledged."""

LATE_BEATS = 12
"""Heartbeats that may be missed on a machine that is busy."""

_SILENT_BEATS = 12


async def split(world: World) -> str:
    """Only single messages fit."""
    attempt = world.training(epochs=30)
    away = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "Not yet.")
    # The first openings are refused, so that a batch gathers.
    attempt.progress.plays.extend([Play(refusal=away)] * 3 + [Play(single=True)] * MOST_REFUSALS)
    await world.assign(attempt)
    count = await world.succeeded(attempt, "R15")
    return f"{count} updates after {attempt.progress.size_refusals} refusals"


async def too_large(world: World) -> str:
    """One message fits into no request."""
    attempt = world.training(epochs=30)
    attempt.progress.plays.extend([Play(too_large=5)] * (MOST_REFUSALS + 1))
    await world.assign(attempt)

    def settled() -> bool:
        return attempt.end is not None or attempt.progress.size_refusals > MOST_REFUSALS

    await world.until(settled, "R15", "the end of an attempt with one large update", 30.0)
    refusals = attempt.progress.size_refusals
    if refusals > MOST_REFUSALS:
        raise Failed("R15", f"number 5 was sent {refusals} times though it is too large")
    if refusals == 0:
        raise Failed("R15", "number 5 never came")
    await world.unnamed(attempt, "R15")
    return f"number 5 gave way after {refusals} refusals"


async def silent(world: World) -> str:
    """Nothing is acknowledged for some seconds; heartbeats go on."""
    attempt = world.training(work.LONG, talkative=True)
    attempt.progress.plays.append(Play(silent=True))
    await world.assign(attempt)
    await world.until(lambda: attempt.progress.received, "R16", "the first update")
    before = world.runner.memory_bytes()
    await world.quiet(_SILENT_BEATS)
    grown = world.runner.memory_bytes() - before
    _look_at_heart(world, attempt)
    if grown > MOST_MEMORY_BYTES:
        raise Failed("R16", f"the runner grew by {grown} bytes while nothing was acknowledged")
    held = attempt.progress.unacknowledged_bytes
    world.scheduler.cut(attempt.progress)
    await world.until(lambda: attempt.updates("epoch_completed"), "R10", "what was not acknowledged, again")
    return f"{held / 1e6:.1f} MB under way, memory {grown / 1e6:+.1f} MB in {_SILENT_BEATS} heartbeats"


def _look_at_heart(world: World, attempt: Attempt) -> None:
    """Heartbeats came in time though a data stream stands still, and they name the attempt."""
    beats = world.scheduler.connection.beats[-_SILENT_BEATS:]
    waits = [later.time - sooner.time for sooner, later in pairwise(beats)]
    if max(waits) > LATE_BEATS * HEARTBEAT_SECONDS:
        raise Failed("R2", f"{max(waits):.1f} s passed between two heartbeats, {HEARTBEAT_SECONDS} s are due")
    if (attempt.job, attempt.number) not in beats[-1].attempts:
        raise Failed("R2", f"heartbeats do not name {attempt.job}, which is not over")


async def slow_results(world: World) -> str:
    """The result is not acknowledged until long after the training is done."""
    attempt = world.training()
    attempt.results.plays.append(Play(silent=True))
    await world.assign(attempt)
    await world.until(lambda: attempt.results.received, "R13", "a result")
    async with asyncio.timeout(30):
        await world.quiet(6)
    if attempt.progress.stored and attempt.end is not None:
        raise Failed("R13", "attempt_ended came though no result is acknowledged")
    world.scheduler.cut(attempt.results)
    count = await world.succeeded(attempt, "R13")
    return f"{count} updates, the end only after the results"


async def outstanding(world: World) -> str:
    """When the attempt ends, a result turns out to be gone."""
    attempt = world.training()
    attempt.progress.plays.append(Play(outstanding=1))
    await world.assign(attempt)
    count = await world.succeeded(attempt, "R14")
    opened = len(attempt.results.openings)
    if opened < 2:
        raise Failed("R14", "PublishResults was not opened again")
    return f"{count} updates, results over {opened} openings"


SIZES = (
    Case("split", ("R15",), "takes one message a request", split),
    Case("too-large", ("R15", "R7"), "never takes update number 5 as it is", too_large),
    Case("silent", ("R16", "R2"), "acknowledges nothing for 3 s", silent),
    Case("slow-results", ("R13",), "acknowledges results late", slow_results),
    Case("outstanding", ("R14", "R13"), "has lost a result when the attempt ends", outstanding),
)
