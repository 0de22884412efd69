"""A scheduler that stops, and connections that get old: runners and watchers go elsewhere, jobs go on."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from live_scheduler import Mesh, StartMesh, running
from runner_double import PATIENCE, RunnerDouble, ended, epoch, line, refusal, started

from runners.agent.control import Control
from runners.ultralytics.manifest import manifest
from scheduler.services import session
from visionmesh.errors import MeshError
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, runner_pb2


async def watched_to_its_end(call: Any) -> MeshError:
    """How a stream ended."""
    try:
        async with asyncio.timeout(PATIENCE):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError("it ended well")


def a_job(dataset: dataset_pb2.Dataset, framework: str) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name)
    return job_pb2.Job(framework=framework, train=spec)


@pytest.mark.parametrize("watch", ["progress", "jobs"])
async def test_watches_are_told_when_to_come_back(tmp_path: Path, shapes_folder: Path, watch: str) -> None:
    async with AsyncExitStack() as channels, AsyncExitStack() as scheduler:
        mesh = await scheduler.enter_async_context(running(tmp_path / "data"))
        dataset = await mesh.client.create_dataset(shapes_folder, dataset_id="shapes")
        job = await mesh.create(a_job(dataset, "nobody"))
        channel = await channels.enter_async_context(grpc.aio.insecure_channel(mesh.address))
        other = Mesh(mesh.address, mesh.folder, mesh.client, channel)
        call = (
            other.progress.WatchProgress(progress_pb2.WatchProgressRequest(job=job.name))
            if watch == "progress"
            else other.jobs.WatchJobs(job_pb2.WatchJobsRequest())
        )
        await call.read()
        await scheduler.aclose()
        told = await watched_to_its_end(call)
    assert told.code is grpc.StatusCode.UNAVAILABLE
    assert told.retry_delay is not None
    assert timedelta(0) < told.retry_delay < timedelta(seconds=1)


class Runner:
    """What an agent's control stream asks of an agent, without jobs."""

    def attempts(self) -> list[runner_pb2.AttemptRef]:
        return []

    def assign(self, assignment: runner_pb2.Assignment) -> str:
        return "a test takes no jobs"

    def cancel(self, cancel: runner_pb2.CancelAttempt) -> None:
        raise AssertionError("there is nothing to cancel")

    def kill(self, refs: Iterable[runner_pb2.AttemptRef], why: str) -> None:
        assert not list(refs)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Control]:
    """An agent's control stream to that address."""
    register = runner_pb2.Register(
        runner_id="wanderer",
        incarnation="incarnation-1",
        capacity=runner_pb2.RunnerCapacity(slots=1, cpus=1),
        manifest=manifest(),
    )
    control = Control(address, lambda: register, Runner())
    task = asyncio.create_task(control.run())
    try:
        yield control
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def state_at(mesh: Mesh) -> int | None:
    """How a scheduler sees the runner; None if it does not know it."""
    listed = await mesh.call(mesh.runners.ListRunners, runner_pb2.ListRunnersRequest())
    return next((runner.state for runner in listed.runners), None)


async def online(meshes: Iterable[Mesh]) -> Mesh:
    """The scheduler to which the runner is connected, as soon as there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for mesh in meshes:
                if await state_at(mesh) == runner_pb2.RUNNER_STATE_ONLINE:
                    return mesh
            await asyncio.sleep(0.02)  # schedulers do not tell of their runners


async def test_a_runner_goes_to_another_replica_before_its_own_has_stopped(tmp_path: Path) -> None:
    replicas: dict[Mesh, AsyncExitStack] = {}
    async with AsyncExitStack() as everything:
        for name in ("a", "b"):
            stack = await everything.enter_async_context(AsyncExitStack())
            replicas[await stack.enter_async_context(running(tmp_path / name))] = stack
        addresses = ",".join(mesh.address for mesh in replicas)
        async with connected(f"ipv4:{addresses}"):
            first = await online(replicas)
            stopping = asyncio.create_task(replicas.pop(first).aclose())
            second = await online(replicas)
            await stopping
    assert second is not first


async def test_a_runner_that_does_not_go_is_shown_out(
    start_mesh: StartMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEAVE_SECONDS", 0.1)
    async with (
        start_mesh(max_connection_age_seconds=0.2, max_connection_grace_seconds=60) as mesh,
        mesh.runner("stubborn") as runner,
    ):
        told = await runner.ended_with()
        assert runner.sent_away.is_set()
    assert told.code is grpc.StatusCode.UNAVAILABLE


async def deliver(
    runner: RunnerDouble, assignment: runner_pb2.Assignment, updates: list[progress_pb2.ProgressUpdate]
) -> None:
    """Send what is not stored yet, on a new stream; once more if its connection ends meanwhile."""
    while True:
        try:
            stream = await runner.progress(assignment.job.name, assignment.attempt)
            if rest := updates[stream.number :]:
                await stream.send(*rest)
            stream.close()
            return
        except MeshError as error:
            if error.code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise


async def test_old_connections_end_and_nothing_is_lost(start_mesh: StartMesh, shapes_folder: Path) -> None:
    ages = {"max_connection_age_seconds": 1.0, "max_connection_grace_seconds": 0.2}
    async with start_mesh(bookmark_seconds=0.1, **ages) as mesh:
        dataset = await mesh.client.create_dataset(shapes_folder, dataset_id="shapes")
        async with mesh.runner("early") as runner:
            async with asyncio.timeout(PATIENCE):
                await runner.sent_away.wait()
        job = await mesh.client.create_job(a_job(dataset, "old"))

        async def watch() -> list[progress_pb2.JobEvent]:
            return [event async for event in job.watch()]

        watching = asyncio.create_task(watch())
        async with mesh.runner("old") as runner:
            assignment = await runner.take()
            updates = [started()]
            for number in range(1, 9):
                updates += [epoch(number, 8), line("x" * 100)]
                await deliver(runner, assignment, updates)
                await asyncio.sleep(0.3)
            await deliver(runner, assignment, [*updates, ended()])
        async with asyncio.timeout(PATIENCE):
            told = await watching
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    epochs = [e.update.epoch_completed.epoch for e in told if e.update.HasField("epoch_completed")]
    assert epochs == list(range(1, 9))
