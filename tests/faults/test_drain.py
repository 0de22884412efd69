"""Runners that are asked to stop, or to take nothing more (row 18, and the operator's drain)."""

from pathlib import Path

import pytest
from fault_mesh import fault_mesh, followed, state, training

from visionmesh.v1 import runner_pb2


async def test_a_drained_attempt_goes_on_elsewhere_and_is_not_counted(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, _):
        first = await mesh.agent("one")
        async with followed(mesh, training(hold_after=3, checkpoint_period=5)) as job:
            await job.sees_epoch(3)
            await mesh.agent("two")
            assert await first.stop() == 0
            ended = await job.end()
    print(f"epochs by attempt {job.epochs}, attempts {ended.attempt}, counted {ended.failure_count}")
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 2, 0)
    assert job.endings == [(1, "RELEASED", "DRAINED"), (2, "SUCCEEDED", "UNSPECIFIED")]
    assert job.epochs == {1: [1, 2, 3], 2: [4, 5]}


async def test_a_job_that_was_handed_back_keeps_its_place(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, _):
        first = await mesh.agent("one")
        async with (
            followed(mesh, training(hold_after=1)) as drained,
            followed(mesh, training()) as behind,
        ):
            await drained.sees_epoch(1)
            assert await first.stop() == 0
            await mesh.agent("two")
            again, later = await drained.end(), await behind.end()
    assert (again.attempt, later.attempt) == (2, 1)
    assert again.end_time.ToDatetime() < later.start_time.ToDatetime()


@pytest.mark.parametrize("model", ["deaf", "paced"])
async def test_whatever_the_job_does_the_runner_ends_in_its_grace(tmp_path: Path, model: str) -> None:
    async with fault_mesh(tmp_path) as (mesh, _):
        first = await mesh.agent("one", "paced_framework:Paced", "--drain-grace-seconds", "1")
        async with followed(mesh, training(model, hold_after=1)) as job:
            await job.sees(lambda event: event.update.HasField("attempt_started"))
            assert await first.stop() == 0
            await job.sees(lambda event: event.update.HasField("attempt_ended"))
            waiting = await job.job.get()
    assert job.endings == [(1, "RELEASED", "DRAINED")]
    assert (state(waiting), waiting.failure_count) == ("QUEUED", 0)


async def test_an_operators_drain_lets_the_job_run_to_its_end(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, _):
        await mesh.agent("one")
        async with (
            followed(mesh, training(epochs=20, epoch_ms=50)) as running,
            followed(mesh, training()) as behind,
        ):
            await running.sees_epoch(1)
            drained = await mesh.client.drain_runner("runners/one")
            ended = await running.end()
            waiting = await behind.job.get()
            why = await behind.job.explain()
            await mesh.client.undrain_runner("runners/one")
            done = await behind.end()
    assert drained.state == runner_pb2.RUNNER_STATE_DRAINING
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 1)
    assert (state(waiting), waiting.attempt) == ("QUEUED", 0)
    assert "drain" in str(why)
    assert (state(done), done.attempt) == ("SUCCEEDED", 1)
