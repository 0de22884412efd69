"""A real training whose agent is killed goes on from its checkpoint, and is as good in the end."""

from pathlib import Path

from fault_mesh import Follower, fault_mesh, followed, state
from quick_training import QUICK

from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2

EPOCHS = 5
PATIENCE = 120.0


def learning() -> job_pb2.Job:
    """A training of a real detector."""
    job = job_pb2.Job(
        train=job_pb2.TrainSpec(
            model="yolov8n",
            dataset="datasets/coloured",
            epochs=EPOCHS,
            image_size=96,
            batch_size=8,
            optimizer="AdamW",
            learning_rate=0.003,
            primary_metric="mAP50",
            device="cpu",
            seed=1,
        )
    )
    job.train.hyperparameters.update(QUICK)
    job.retry_policy.initial_backoff.FromMilliseconds(10)
    return job


async def test_a_killed_training_ends_as_good_as_one_that_was_left_alone(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path, lease_seconds=2, heartbeat_seconds=0.4) as (mesh, _):
        write_shapes(tmp_path / "coloured")
        await mesh.client.create_dataset(tmp_path / "coloured", "coloured")
        first = await mesh.agent("one", "ultralytics")
        async with (
            followed(mesh, learning(), PATIENCE) as killed,
            followed(mesh, learning(), PATIENCE) as straight,
        ):
            await mesh.agent("two", "ultralytics")
            await killed.sees_checkpoint(2)
            await first.kill()
            resumed, unhurt = await killed.end(), await straight.end()
            found, expected = await _map50(killed), await _map50(straight)
    print(f"epochs by attempt {killed.epochs}; mAP50 {found:.3f}, left alone {expected:.3f}")
    assert (state(resumed), resumed.attempt, state(unhurt)) == ("SUCCEEDED", 2, "SUCCEEDED")
    before = killed.epochs[1][-1]
    assert killed.epochs[1] == list(range(1, before + 1))
    assert killed.epochs[2] == list(range(killed.epochs[2][0], EPOCHS + 1))
    assert 3 <= killed.epochs[2][0] <= before + 1
    assert found > expected - 0.1


async def _map50(job: Follower) -> float:
    return (await job.job.result()).training.best_metrics["mAP50"]
