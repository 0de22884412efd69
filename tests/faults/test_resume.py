"""An attempt that is cut short: another goes on from its last uploaded checkpoint (row 4)."""

from pathlib import Path

import pytest
from fault_mesh import fault_mesh, followed, state, training


@pytest.mark.parametrize(
    ("period", "epochs"), [(1, {1: [1, 2, 3], 2: [4, 5]}), (2, {1: [1, 2, 3], 2: [3, 4, 5]})]
)
async def test_an_agent_is_killed_and_another_goes_on(tmp_path: Path, period: int, epochs: object) -> None:
    async with fault_mesh(tmp_path, lease_seconds=2, heartbeat_seconds=0.3) as (mesh, _):
        first = await mesh.agent("one")
        async with followed(mesh, training(hold_after=3, checkpoint_period=period)) as job:
            await job.sees_checkpoint(3 if period == 1 else 2)
            await job.sees_epoch(3)
            await mesh.agent("two")
            await first.kill()
            ended = await job.end()
    print(f"epochs by attempt {job.epochs}, attempts {ended.attempt}, counted {ended.failure_count}")
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 2, 1)
    assert job.epochs == epochs


@pytest.mark.parametrize("damage", ["gone", "changed"])
async def test_a_damaged_checkpoint_costs_the_epochs_and_never_the_job(tmp_path: Path, damage: str) -> None:
    async with fault_mesh(tmp_path, lease_seconds=2, heartbeat_seconds=0.3) as (mesh, _):
        first = await mesh.agent("one")
        async with followed(mesh, training(hold_after=3)) as job:
            await job.sees_checkpoint(3)
            await first.kill()
            (stored,) = (tmp_path / "data" / "artifacts" / "attempts").rglob("last.pt")
            stored.unlink() if damage == "gone" else stored.write_text("epoch 4")
            await mesh.agent("two")
            ended = await job.end()
    told = [line for line in job.lines if line.startswith("The training starts anew")]
    print(f"epochs by attempt {job.epochs}: {told}")
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 2, 1)
    assert job.epochs == {1: [1, 2, 3], 2: [1, 2, 3, 4, 5]}
    assert len(told) == 1
