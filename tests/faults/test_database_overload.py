"""Row 9: callers hold every place at PostgreSQL. They are sent away in time, and no lease notices."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import psycopg
from fault_mesh import DEADLINE, fault_mesh, followed, state, training
from postgres_server import PostgresServer
from runner_double import refusal

from scheduler.store.places import PLACE_SECONDS
from visionmesh.errors import MeshError
from visionmesh.v1 import job_pb2, job_pb2_grpc

LEASE = 3.0
CALLERS = 30
EPOCHS = 600


async def ended_with(call: Any) -> MeshError:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError("it was answered")


def slow_calls(jobs: Any) -> list[Any]:
    """They wait for the labels of jobs, which somebody else holds; half of them read, half write."""
    calls = []
    for number in range(CALLERS):
        listing = job_pb2.ListJobsRequest(filter='labels.team = "a"')
        calls.append(jobs.ListJobs(listing, timeout=DEADLINE))
        job = training(epochs=1)
        job.labels["team"] = "a"
        creating = job_pb2.CreateJobRequest(job=job, request_id=f"slow-{number}")
        calls.append(jobs.CreateJob(creating, timeout=DEADLINE))
    return calls


async def test_callers_who_wait_for_each_other_do_not_end_a_lease(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    settings = {"lease_seconds": LEASE, "heartbeat_seconds": 0.3}
    async with fault_mesh(tmp_path, database_url=url, **settings) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=EPOCHS, epoch_ms=20)) as job:
            await job.sees_epoch(20)
            async with (
                await psycopg.AsyncConnection.connect(url) as holder,
                grpc.aio.insecure_channel(mesh.address) as channel,
            ):
                await holder.execute("LOCK TABLE job_labels")
                began = time.monotonic()
                ends = await asyncio.gather(
                    *(ended_with(call) for call in slow_calls(job_pb2_grpc.JobServiceStub(channel)))
                )
                took = time.monotonic() - began
            ended = await job.end()
        assert "lease expired" not in scheduler.log_text()
        assert "not serving" not in scheduler.log_text()
        assert agent.log_text().count("registered") == 1
    committed = [event.commit_time.ToNanoseconds() / 1e9 for event in job.events]
    longest = max(later - earlier for earlier, later in pairwise(committed))
    print(
        f"{len(ends)} slow calls were sent away within {took:.1f} s; meanwhile a job that reports was never "
        f"without a commit for more than {longest:.2f} s; the lease is {LEASE:.0f} s"
    )
    assert {error.reason for error in ends} == {"UNAVAILABLE"}
    assert all(error.retry_delay for error in ends)
    assert longest < PLACE_SECONDS * 0.8
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, EPOCHS + 1))}
