"""How a runner ends: because it is stopped, and because another has its id."""

import time

import grpc

from runners.conformance.case import Case, World
from runners.conformance.observed import Failed
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import vision_pb2

QUIET_SECONDS = 3.0


async def drain(world: World) -> str:
    """The runner gets SIGTERM while it has an attempt."""
    attempt = await world.started()
    began = time.monotonic()
    world.runner.terminate()
    await world.until(lambda: world.scheduler.connection.draining, "R22", "draining")
    await world.until(lambda: attempt.end is not None, "R22", "attempt_ended")
    end = attempt.end
    if end is None or (end.outcome, end.cause) != (
        vision_pb2.ATTEMPT_STATE_RELEASED,
        vision_pb2.ATTEMPT_CAUSE_DRAINED,
    ):
        raise Failed("R22", f"the attempt was not handed back: {end}")
    code = await world.runner.ended("R22")
    if code != 0:
        raise Failed("R22", f"the runner exited with {code}")
    return f"RELEASED, exited after {time.monotonic() - began:.1f} s"


async def superseded_runner(world: World) -> str:
    """Another process has registered under the same id."""
    text = "Another process registered under this id. Stop."
    refusal = MeshError(grpc.StatusCode.ABORTED, Reason.RUNNER_SUPERSEDED, text)
    connections = len(world.scheduler.connections)
    world.scheduler.refuses_runner = refusal
    world.scheduler.say_message(refusal)
    try:
        await world.until(
            lambda: len(world.scheduler.connections) > connections or not world.runner.is_running,
            "R23",
            "nothing",
            QUIET_SECONDS,
        )
    except Failed:
        pass  # neither dialled nor ended
    finally:
        world.scheduler.refuses_runner = None
    if len(world.scheduler.connections) > connections:
        raise Failed("R23", "it registered again")
    return "stopped dialling"


ENDING = (
    Case("drain", ("R22",), "nothing; the runner gets SIGTERM", drain, ends_runner=True),
    Case("same-id", ("R23",), "says RUNNER_SUPERSEDED", superseded_runner, ends_runner=True),
)
