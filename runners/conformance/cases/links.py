"""Links that go silent, and a scheduler that goes away politely."""

import time

from google.protobuf.duration_pb2 import Duration

from runners.conformance.case import Case, World
from runners.conformance.observed import Failed
from runners.conformance.scheduler import LEASE_SECONDS
from visionmesh.v1 import runner_pb2

NOTICED_SECONDS = 20.0
DELAY_SECONDS = 1.0


async def half_open(world: World) -> str:
    """Every connection stays open and carries nothing any more."""
    attempt = await world.started()
    connections, opened = len(world.scheduler.connections), len(attempt.progress.openings)
    began = time.monotonic()
    world.relay.freeze()
    await world.until(
        lambda: len(world.scheduler.connections) > connections, "R17", "a new control stream", NOTICED_SECONDS
    )
    control = time.monotonic() - began
    await world.until(
        lambda: len(attempt.progress.openings) > opened, "R17", "a new progress stream", NOTICED_SECONDS
    )
    before = attempt.progress.highest
    await world.until(lambda: attempt.progress.highest > before, "R17", "another update")
    data = time.monotonic() - began
    return f"control stream back after {control:.1f} s, progress after {data:.1f} s (lease {LEASE_SECONDS} s)"


async def reconnect(world: World) -> str:
    """The scheduler is about to stop and says so."""
    attempt = await world.started()
    connections = len(world.scheduler.connections)
    began = time.monotonic()
    said = runner_pb2.Reconnect(
        delay=Duration(nanos=int(DELAY_SECONDS * 1e9) % 10**9, seconds=int(DELAY_SECONDS))
    )
    world.scheduler.say(reconnect=said)
    await world.until(lambda: len(world.scheduler.connections) > connections, "R20", "another register")
    took = time.monotonic() - began
    if took < DELAY_SECONDS * 0.9:
        raise Failed("R20", f"registered again after {took:.2f} s, {DELAY_SECONDS:g} s were asked for")
    await world.until(world.is_connected, "R20", "its heartbeat")
    before = attempt.progress.highest
    await world.until(lambda: attempt.progress.highest > before, "R20", "another update")
    return f"registered again after {took:.1f} s, went on after update {before}"


LINKS = (
    Case("reconnect", ("R20",), "asks to connect again in 1 s", reconnect),
    Case("half-open", ("R17",), "freezes every connection", half_open),
)
