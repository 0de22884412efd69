"""Row 6: PostgreSQL is killed while jobs stream. Runners keep their jobs, watches go on, nothing is lost."""

import asyncio
import signal
import time
from pathlib import Path

import grpc
import pytest
from fault_mesh import DEADLINE, FaultMesh, fault_mesh, followed, state, training
from grpc_health.v1 import health_pb2, health_pb2_grpc
from postgres_server import PostgresServer

from visionmesh.client import AsyncClient
from visionmesh.errors import Unavailable

LEASE = 8.0
EPOCHS = 600


async def reports(mesh: FaultMesh, service: str, status: str) -> float:
    """Wait until the scheduler says so of a service; returns when."""
    wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
    async with asyncio.timeout(DEADLINE), grpc.aio.insecure_channel(mesh.address) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))
        while (await call.read()).status != wanted:
            pass
        call.cancel()
    return time.monotonic()


async def is_refused_with_a_delay(mesh: FaultMesh) -> None:
    """What a caller hears who does not try again by itself."""
    async with AsyncClient(mesh.address) as impatient:
        with pytest.raises(Unavailable) as away:
            _ = [job async for job in impatient.list_jobs()]
    assert away.value.from_mesh
    assert away.value.retry_delay


async def test_a_postgres_that_is_killed_costs_a_moment(postgres: PostgresServer, tmp_path: Path) -> None:
    settings = {"lease_seconds": LEASE, "heartbeat_seconds": 0.5}
    async with fault_mesh(tmp_path, database_url=postgres.new_database(), **settings) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=EPOCHS, epoch_ms=20, checkpoint_period=100)) as job:
            for epoch, least in ((50, 0.0), (200, LEASE * 1.2)):
                await job.sees_epoch(epoch)
                killed = time.monotonic()
                await asyncio.to_thread(postgres.kill)
                noticed = await reports(mesh, "", "NOT_SERVING") - killed
                await is_refused_with_a_delay(mesh)
                await reports(mesh, "liveness", "SERVING")
                await asyncio.sleep(least - (time.monotonic() - killed))
                await asyncio.to_thread(postgres.start)
                back, known = time.monotonic(), len(job.events)
                await job.sees(lambda event, known=known: event.sequence > known)
                next_event = job.times[known] - back
                serving = await reports(mesh, "visionmesh.v1.JobService", "SERVING") - back
                registered = agent.log_text().count("registered")
                print(
                    f"away for {back - killed:.1f} s with a lease of {LEASE:.0f} s: not serving after "
                    f"{noticed:.1f} s; from its start to the next event {next_event:.2f} s, to serving "
                    f"{serving:.2f} s; the agent registered {registered} times"
                )
                if serving + back - killed < LEASE * 0.7:  # else the silence ends its stream, and rightly
                    assert registered == 1
            ended = await job.end()
        assert scheduler.is_running
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, EPOCHS + 1))}


async def test_a_postgres_that_says_nothing_keeps_no_scheduler_from_stopping(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    async with fault_mesh(tmp_path, database_url=postgres.new_database()) as (mesh, scheduler):
        await mesh.agent("one")
        async with followed(mesh, training(hold_after=1)) as job:
            await job.sees_epoch(1)
            with postgres.frozen():
                frozen = time.monotonic()
                noticed = await reports(mesh, "", "NOT_SERVING") - frozen
                asked = scheduler.send(signal.SIGTERM)
                assert await scheduler.over() == 0
                stopped = time.monotonic() - asked
    print(f"frozen: not serving after {noticed:.1f} s, stopped {stopped:.1f} s after it was asked to")
