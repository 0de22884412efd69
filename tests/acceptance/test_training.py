"""Real trainings on a real mesh: watched, killed and cancelled."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from visionmesh.cli.mesh import LocalMesh, MeshSettings, local_mesh
from visionmesh.client import AsyncClient, AsyncJobHandle
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2, progress_pb2, vision_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATASET = "datasets/shapes"
DEADLINE = 120.0  # seconds for a job to come to where a test wants it


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalMesh]:
    folder = tmp_path_factory.mktemp("mesh")
    async with local_mesh(MeshSettings(data_dir=folder)) as started:
        shapes = folder / "shapes"
        write_shapes(shapes, train=48, val=16, test=0, size=64)
        async with AsyncClient(started.address) as client:
            await client.create_dataset(shapes, "shapes")
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def client(mesh: LocalMesh) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(mesh.address) as opened:
        yield opened


def training(epochs: int, max_attempts: int = 3) -> job_pb2.Job:
    spec = job_pb2.TrainSpec(
        model="yolov8n", dataset=DATASET, epochs=epochs, image_size=64, batch_size=8, device="cpu"
    )
    policy = job_pb2.RetryPolicy(max_attempts=max_attempts, initial_backoff=Duration(nanos=1_000_000))
    return job_pb2.Job(train=spec, retry_policy=policy)


async def seen(job: AsyncJobHandle, kind: str, attempt: int = 1, count: int = 1) -> progress_pb2.JobEvent:
    """The event of that kind, number `count`, of an attempt."""
    async with asyncio.timeout(DEADLINE):
        async for event in job.watch():
            count -= event.attempt == attempt and event.update.WhichOneof("update") == kind
            if count == 0:
                return event
    raise AssertionError(f"the job ended without {kind}")


def is_zombie(process: psutil.Process) -> bool:
    """Dead, and waiting for an init that takes its time, or for ever in a container without one."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_a_watcher_that_comes_late_and_leaves_sees_each_event_once(client: AsyncClient) -> None:
    job = await client.create_job(training(epochs=3))
    await seen(job, "epoch_completed")  # late: an epoch is over
    told: list[int] = []
    epochs: list[int] = []
    ended = False
    async with asyncio.timeout(DEADLINE):
        while not ended:
            after = told[-1] if told else 0
            async with AsyncClient(client.address) as other:  # a new connection every seven events
                count = 0
                async for event in other.job(job.name).watch(after):
                    told.append(event.sequence)
                    kind = event.update.WhichOneof("update")
                    if kind == "epoch_completed":
                        epochs.append(event.update.epoch_completed.epoch)
                    count += 1
                    if count == 7:
                        break
                else:
                    ended = True
    result = await job.get()
    assert result.state == vision_pb2.JOB_STATE_SUCCEEDED
    assert told == list(range(1, result.sequence + 1)), "a training has no predictions: no number is missing"
    assert epochs == [1, 2, 3]


async def test_a_killed_job_process_is_retried_until_its_failures_are_used_up(client: AsyncClient) -> None:
    job = await client.create_job(training(epochs=500, max_attempts=2))
    for attempt in (1, 2):
        started = await seen(job, "attempt_started", attempt)
        os.kill(started.update.attempt_started.pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        ended = await job.wait()
    assert ended.state == vision_pb2.JOB_STATE_FAILED
    causes = {attempt.cause for attempt in ended.attempts}
    assert causes <= {vision_pb2.ATTEMPT_CAUSE_PROCESS_DIED, vision_pb2.ATTEMPT_CAUSE_OUT_OF_MEMORY}
    assert len(ended.attempts) == ended.failure_count == 2
    assert "SIGKILL" in ended.error.message

    after = await client.create_job(training(epochs=1))
    async with asyncio.timeout(DEADLINE):
        assert (await after.wait()).state == vision_pb2.JOB_STATE_SUCCEEDED, "the runner takes the next job"


async def test_cancel_of_a_running_training_keeps_its_epochs_and_a_checkpoint(
    client: AsyncClient, tmp_path: Path
) -> None:
    job = await client.create_job(training(epochs=500))
    await seen(job, "epoch_completed", count=2)
    begin = time.monotonic()
    await job.cancel()
    async with asyncio.timeout(DEADLINE):
        ended = await job.wait()
    took = time.monotonic() - begin
    assert ended.state == vision_pb2.JOB_STATE_CANCELLED
    print(f"cancelled in {took:.2f} s")
    assert took < 3, f"cancel took {took:.1f} s"
    epochs = [metrics.epoch.epoch async for metrics in job.metrics()]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= 2
    artifacts = {artifact.name.rsplit("/", 1)[-1]: artifact async for artifact in job.artifacts()}
    assert artifacts["last"].metadata["resumable"] == "true"
    last = await job.download("last", tmp_path / "last.pt")
    assert last.stat().st_size == artifacts["last"].size_bytes


async def test_a_killed_agent_takes_its_job_processes_with_it(client: AsyncClient, tmp_path: Path) -> None:
    async with local_mesh(MeshSettings(data_dir=tmp_path / "mesh")) as own, AsyncClient(own.address) as mine:
        shapes = tmp_path / "shapes"
        write_shapes(shapes, train=16, val=8, test=0, size=64)
        await mine.create_dataset(shapes, "shapes")
        wanted = training(epochs=500)
        wanted.train.hyperparameters["workers"] = 2  # data loader processes: children of the job process
        job = await mine.create_job(wanted)
        await seen(job, "batch_progress")
        agent = psutil.Process(own.processes[1].pid)
        family = [process for process in agent.children(recursive=True) if process.is_running()]
        assert len(family) >= 3, "zygote, guardian, job process"
        agent.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 1.0)
        assert [process for process in alive if not is_zombie(process)] == []
