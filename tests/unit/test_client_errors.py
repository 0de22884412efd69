"""Whatever a call ends in, the caller gets one MeshError that says what, why and what to do."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.client import AsyncClient
from visionmesh.client._channel import channel_options, service_config
from visionmesh.errors import MeshError, Reason, Violation
from visionmesh.v1 import job_pb2, job_pb2_grpc

FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


class Jobs(job_pb2_grpc.JobServiceServicer):
    """Fails each GetJob as told; answers after `failures` runs out."""

    def __init__(self) -> None:
        self.failures: list[MeshError | grpc.StatusCode] = []
        self.calls = 0
        self.timeouts: list[float] = []

    async def GetJob(self, request, context):  # noqa: N802
        self.calls += 1
        self.timeouts.append(context.time_remaining())
        if not self.failures:
            return job_pb2.Job(name=request.name)
        failure = self.failures.pop(0)
        if isinstance(failure, MeshError):
            status = rpc_status.to_status(errors.status_of(failure))
            context.set_trailing_metadata(status.trailing_metadata)
            await context.abort(status.code, status.details)
        return await context.abort(failure, "the proxy said so")

    async def CancelJob(self, request, context):  # noqa: N802
        self.calls += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


@asynccontextmanager
async def serving(jobs: Jobs) -> AsyncIterator[AsyncClient]:
    server = grpc.aio.server()
    job_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{port}", timeout=10) as client:
            yield client
    finally:
        await server.stop(None)


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
async def test_each_code_from_the_mesh_arrives_with_everything_it_said(code: grpc.StatusCode) -> None:
    said = MeshError(
        code,
        Reason.BAD_FILTER,
        "what, why, next",
        {"key": "value"},
        (Violation("job.train.epochs", "is 0; at least 1"),),
        timedelta(seconds=3),
    )
    jobs = Jobs()
    jobs.failures = [said] * 4  # UNAVAILABLE is tried four times
    async with serving(jobs) as client:
        with pytest.raises(MeshError) as raised:
            await client.job("x").get()
    assert raised.value == said
    assert raised.value.from_mesh


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
async def test_each_code_without_details_names_the_address(code: grpc.StatusCode) -> None:
    jobs = Jobs()
    jobs.failures = [code] * 4
    async with serving(jobs) as client:
        with pytest.raises(MeshError) as raised:
            await client.job("x").get()
    error = raised.value
    assert (error.code, error.reason, error.from_mesh) == (code, code.name, False)
    assert client.address in error.message


async def test_nobody_there_says_which_address_and_how_to_start_a_mesh() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        async with AsyncClient(address) as client:
            with pytest.raises(MeshError) as raised:
                await client.job("x").get()
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert address in raised.value.message
    assert "vmesh up" in raised.value.message


async def test_a_read_is_repeated_while_the_mesh_is_away_for_a_moment() -> None:
    jobs = Jobs()
    jobs.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    async with serving(jobs) as client:
        assert (await client.job("x").get()).name == "jobs/x"
    assert jobs.calls == 3


async def test_a_read_that_a_stopping_server_cut_off_is_made_again() -> None:
    jobs = Jobs()
    async with serving(jobs) as client:
        await client.job("x").get()  # the mesh is there
        jobs.failures = [grpc.StatusCode.CANCELLED]
        assert (await client.job("x").get()).name == "jobs/x"
    assert jobs.calls == 3


async def test_a_call_that_changes_something_is_not_repeated() -> None:
    jobs = Jobs()
    async with serving(jobs) as client:
        with pytest.raises(MeshError):
            await client.job("x").cancel()
    assert jobs.calls == 1


async def test_unary_calls_carry_a_deadline() -> None:
    jobs = Jobs()
    async with serving(jobs) as client:
        await client.job("x").get()
    assert 5 < jobs.timeouts[0] < 11


def test_only_repeatable_calls_are_in_the_retry_policy() -> None:
    (method_config,) = service_config()["methodConfig"]  # type: ignore[misc]
    names = {name["method"] for name in method_config["name"]}
    assert {
        "GetJob",
        "ListJobs",
        "ExplainJob",
        "CreateJob",
        "RetryJob",
        "CreateDataset",
        "GetResult",
    } <= names
    assert not names & {"CancelJob", "DeleteJob", "DrainRunner", "WatchJobs", "UploadFile", "Connect"}


def test_channel_balances_over_replicas_and_keeps_proxies_away_from_this_machine() -> None:
    local = dict(channel_options("127.0.0.1:50051"))
    assert json.loads(str(local["grpc.service_config"]))["loadBalancingConfig"] == [{"round_robin": {}}]
    assert local["grpc.enable_http_proxy"] == 0
    assert "grpc.enable_http_proxy" not in dict(channel_options("dns:///mesh.example:50051"))


async def test_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONMESH_ADDRESS", "mesh.example:7")
    assert AsyncClient().address == "mesh.example:7"
    assert AsyncClient("other.example:8").address == "other.example:8"
    monkeypatch.delenv("VISIONMESH_ADDRESS")
    assert AsyncClient().address == "127.0.0.1:50051"


def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        AsyncClient().job("x")
