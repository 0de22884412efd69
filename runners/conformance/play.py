"""Plays the cases against one runner."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from runners.conformance import work
from runners.conformance.case import Case, Models, World
from runners.conformance.observed import Failed
from runners.conformance.relay import relay_to
from runners.conformance.runner_process import RunnerProcess
from runners.conformance.scheduler import Scheduler
from visionmesh import limits
from visionmesh.v1 import progress_pb2_grpc, result_pb2_grpc, runner_pb2_grpc

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", limits.MAX_RECEIVED_BYTES),
    # As the scheduler has them: runners may ping as often as every second.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True)
class Outcome:
    """How a case went."""

    case: Case
    passed: bool
    seen: str
    rule: str
    """The rule that is broken; empty if none is."""

    seconds: float
    log: str
    """The end of what the runner printed, if the case failed."""


async def play(
    command: Sequence[str], cases: Sequence[Case], models: Models, log: Path
) -> AsyncIterator[Outcome]:
    """Play cases one after the other; each that fails gets the next a fresh runner. Raises OSError."""
    async with _world(command, models, log) as world:
        for case in cases:
            began = time.monotonic()
            failed = await _play(world, case)
            if failed is not None or case.ends_runner:
                await world.runner.kill()
            took = time.monotonic() - began
            if isinstance(failed, Failed):
                yield Outcome(case, False, failed.seen, failed.rule, took, world.runner.last_words())
            else:
                yield Outcome(case, True, world.seen, "", took, "")


async def _play(world: World, case: Case) -> Failed | None:
    try:
        await world.begin(case.name)
        world.seen = await case.play(world)
        await world.end()
    except Failed as failed:
        world.forget()
        return failed
    return None


@asynccontextmanager
async def _world(command: Sequence[str], models: Models, log: Path) -> AsyncIterator[World]:
    scheduler = Scheduler()  # type: ignore[abstract] # the other calls are UNIMPLEMENTED
    scheduler.objects = work.objects()
    server = grpc.aio.server(options=_OPTIONS)
    runner_pb2_grpc.add_RunnerServiceServicer_to_server(scheduler, server)
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(scheduler, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(scheduler, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with relay_to(port) as relay:
            runner = RunnerProcess(command, relay.address, log)
            try:
                yield World(scheduler, relay, runner, models)
            finally:
                await runner.kill()
    finally:
        await server.stop(1)  # the runner is gone, so its calls are about to end
