"""What no row of the table can say: repetition, dry runs, and failures that are nobody's request's fault."""

import asyncio
import re
import socket
import sqlite3
from typing import Any

import grpc
import pytest
import structlog
from refusal_world import World, train

from scheduler.services import pages
from visionmesh.cli._run import Exit, exit_of_error
from visionmesh.client import AsyncClient
from visionmesh.errors import MeshError, Reason
from visionmesh.limits import MAX_RECEIVED_BYTES
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_unknown_method_is_unimplemented(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.mesh.channel.unary_unary("/visionmesh.v1.JobService/Explode")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_forged_page_token_is_refused(world: World) -> None:
    forged = pages.encode("\n", [2**62, "x"])
    request = job_pb2.ListJobsRequest(page_token=forged)
    with pytest.raises(MeshError) as caught:
        await world.mesh.call(world.mesh.jobs.ListJobs, request)
    assert caught.value.reason == Reason.BAD_PAGE_TOKEN


async def test_the_same_request_id_gives_the_same_job(world: World) -> None:
    wanted = train(world.dataset)
    first = await world.mesh.create(wanted, request_id="again")
    second = await world.mesh.create(wanted, request_id="again")
    assert first.name == second.name


async def test_many_at_once_with_one_request_id_make_one_job(world: World) -> None:
    calls = [world.mesh.create(train(world.dataset), request_id="at-once") for _ in range(8)]
    assert len({job.name for job in await asyncio.gather(*calls)}) == 1


async def test_validate_only_stores_nothing(world: World) -> None:
    async def names() -> list[str]:
        return [job.name async for job in world.mesh.client.list_jobs()]

    before = await names()
    checked = await world.mesh.create(train(world.dataset), validate_only=True, request_id="dry")
    assert checked.name == ""
    assert checked.train.epochs == 100
    assert checked.state == vision_pb2.JOB_STATE_QUEUED
    assert await names() == before
    with pytest.raises(MeshError):
        await world.mesh.create(train("datasets/nowhere"), validate_only=True)
    after = job_pb2.Job(depends_on=[world.finished], train=checked.train)
    assert (await world.mesh.create(after, validate_only=True)).state == vision_pb2.JOB_STATE_QUEUED
    after.depends_on[:] = [world.running]
    assert (await world.mesh.create(after, validate_only=True)).state == vision_pb2.JOB_STATE_PENDING
    created = await world.mesh.create(train(world.dataset, epochs=2), request_id="dry")
    assert created.name  # the dry run has not used the request_id up


async def test_validate_only_refuses_what_creating_would_refuse(world: World) -> None:
    stopped = await world.mesh.create(train(world.dataset))
    await world.mesh.call(world.mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=stopped.name))
    with pytest.raises(MeshError, match="will not succeed") as caught:
        await world.mesh.create(
            job_pb2.Job(depends_on=[stopped.name], train=stopped.train), validate_only=True
        )
    assert caught.value.reason == Reason.DEPENDENCY_FAILED


@pytest.mark.asyncio(loop_scope="function")
async def test_an_internal_error_is_told_by_an_opaque_id_and_its_cause_only_to_the_log(
    start_mesh: Any,
) -> None:
    async with start_mesh() as mesh:
        with sqlite3.connect(mesh.folder / "visionmesh.db") as database:
            database.execute("ALTER TABLE datasets RENAME TO secret_name")
        database.close()
        with structlog.testing.capture_logs() as logs, pytest.raises(MeshError) as caught:
            await mesh.call(mesh.datasets.ListDatasets, dataset_pb2.ListDatasetsRequest())
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, Reason.INTERNAL)
    incident = error.metadata["incident"]
    assert re.fullmatch("[0-9a-f]{12}", incident)
    assert incident in error.message
    assert "Try again" in error.message
    assert not re.search(
        "sql|table|datasets|Traceback|/", f"{error.message} {dict(error.metadata)}", re.IGNORECASE
    )
    (entry,) = [entry for entry in logs if entry.get("incident") == incident]
    assert entry["log_level"] == "error"
    assert exit_of_error(error) is Exit.REFUSED


async def test_what_grpc_itself_refuses_has_words_and_an_exit_code_too(world: World) -> None:
    huge = job_pb2.Job(display_name="x" * MAX_RECEIVED_BYTES, train=train(world.dataset).train)
    async with AsyncClient(world.mesh.address) as client:
        with pytest.raises(MeshError) as caught:
            await client.create_job(huge)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.reason == Reason.MESSAGE_TOO_LARGE
    assert "Send less at once" in caught.value.message
    assert exit_of_error(caught.value) is Exit.REFUSED


async def test_a_mesh_that_is_not_there_is_unreachable() -> None:
    async with AsyncClient("127.0.0.1:1", timeout=2) as client:
        with pytest.raises(MeshError, match="vmesh up") as caught:
            await client.job("jobs/any").get()
    assert exit_of_error(caught.value) is Exit.UNREACHABLE


async def test_a_mesh_that_does_not_answer_is_too_slow() -> None:
    """Something listens there, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncClient(address, timeout=0.3) as client:
            with pytest.raises(MeshError, match="did not answer in time") as caught:
                await client.job("jobs/any").get()
    assert exit_of_error(caught.value) is Exit.TIMEOUT


async def test_a_runner_is_told_why_although_a_message_to_it_is_on_its_way(world: World) -> None:
    """gRPC cannot end a call in the middle of a write; the refusal waits for it, and is not lost."""
    malformed = runner_pb2.Heartbeat(attempts=[runner_pb2.AttemptRef(job="no-job", attempt=1)])
    for _ in range(20):
        async with world.mesh.runner("hasty") as runner:
            await runner.beat()
            await runner.say(runner_pb2.ConnectRequest(heartbeat=malformed))
            error = await runner.ended_with()
            assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_ARGUMENT)
