"""Row 4: an agent is killed; the next one of the same folder delivers what it had journalled."""

import re
import shutil
import time
from pathlib import Path

from fault_mesh import DEADLINE, FaultMesh, Process, fault_mesh, followed, state, training

from runners.agent.journal import Identity, Journal, identities
from visionmesh.v1 import progress_pb2


def journalled(work_dir: Path, scratch: Path) -> list[progress_pb2.ProgressUpdate]:
    """What the journal of the only attempt in `work_dir` holds, read from a copy."""
    (folder,) = (work_dir / "journals").iterdir()
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch)
    (progress,) = [identity for identity in identities(scratch) if identity.stream == "progress"]
    journal = Journal(scratch, Identity(progress.job, progress.attempt, "progress"))
    return [progress_pb2.ProgressUpdate.FromString(journal.read(r.place)) for r in journal.recover()]


def epochs(updates: list[progress_pb2.ProgressUpdate]) -> list[int]:
    return [u.epoch_completed.epoch for u in updates if u.HasField("epoch_completed")]


async def _killed_while_nobody_hears(
    mesh: FaultMesh, scheduler: Process, agent: Process, folder: Path
) -> list[progress_pb2.ProgressUpdate]:
    """Freeze the scheduler, let the job process go on for some epochs, kill the agent; its journal."""
    scheduler.freeze()
    before = len(epochs(journalled(mesh.folder / "one", folder / "copy")))
    deadline = time.monotonic() + DEADLINE
    while len(epochs(journalled(mesh.folder / "one", folder / "copy"))) < before + 5:
        assert time.monotonic() < deadline
    await agent.kill()
    pids = [int(pid) for pid in re.findall(r"job process started.*?pid=(\d+)", _plain(agent.log_text()))]
    assert pids, agent.log_text()
    for pid in pids:
        await mesh.gone(pid)
    left = journalled(mesh.folder / "one", folder / "copy")
    scheduler.thaw()
    return left


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


async def test_what_a_killed_agent_had_journalled_arrives_once(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, scheduler):  # the lease is 30 s: nobody waits for its end
        first = await mesh.agent("one")
        async with followed(mesh, training(epochs=40, epoch_ms=100, checkpoint_period=5)) as job:
            await job.sees_epoch(7)
            left = await _killed_while_nobody_hears(mesh, scheduler, first, tmp_path)
            acknowledged = len(job.epochs[1])
            began = time.monotonic()
            await mesh.agent("one")
            await job.sees_epoch(40, attempt=2)
            took = time.monotonic() - began
            ended = await job.end()
    seen = [e.update for e in job.events if e.attempt == 1 and not e.update.HasField("state_changed")]
    print(
        f"{len(left)} updates in the journal, {len(epochs(left)) - acknowledged} epochs never acknowledged; "
        f"{len(seen)} seen, endings {job.endings}, the job done {took:.1f} s after the next agent began"
    )
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 2, 1)
    assert len(epochs(left)) > acknowledged
    assert job.epochs[1] == list(range(1, len(job.epochs[1]) + 1))
    assert job.epochs[1] == epochs(left)
    assert seen[:-1] == left
    assert job.endings[0] == (1, "FAILED", "INFRASTRUCTURE")
    assert seen[-1].HasField("attempt_ended")
    assert not list((tmp_path / "one" / "journals").iterdir())
