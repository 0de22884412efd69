"""All checks, side by side, told in order."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from visionmesh.doctor import _disks, _mesh, _packages
from visionmesh.doctor._finding import Finding, problem
from visionmesh.doctor._gpu import driver
from visionmesh.doctor._process import ProbeFailed, lines_of

_SCHEDULER_SECONDS = 300.0
"""A database of many gigabytes takes its time."""


async def examine(data_dir: Path, address: str) -> AsyncIterator[Finding]:
    """Everything that a mesh in `data_dir`, or the one at `address`, needs."""
    slow: list[Awaitable[list[Finding]]] = [
        asyncio.create_task(_packages.frameworks(driver())),
        asyncio.create_task(_alone(_mesh.mesh(address))),
        asyncio.create_task(scheduler(data_dir)),
    ]
    for finding in (_packages.python(), _packages.packages(), _packages.opencv(), _packages.fonts()):
        yield finding
    for finding in await slow[0]:
        yield finding
    for name, folder in (("data disk", data_dir), ("temp disk", Path(tempfile.gettempdir()))):
        yield _disks.room(name, folder)
    yield _disks.shared_memory()
    for later in slow[1:]:
        for finding in await later:
            yield finding


async def _alone(finding: Awaitable[Finding]) -> list[Finding]:
    return [await finding]


async def scheduler(data_dir: Path) -> list[Finding]:
    """What the scheduler finds out about its settings, database and stores.

    In a process of its own: this package does not know the scheduler, and a damaged database may hang.
    """
    try:
        lines = await lines_of("scheduler.doctor", ["--data-dir", str(data_dir)], _SCHEDULER_SECONDS)
        return [Finding.from_object(line) for line in lines]
    except (ProbeFailed, KeyError, ValueError) as failed:
        advice = "run `python -m scheduler.doctor` to see it, and install VisionMesh again"
        return [problem("scheduler", f"its own checks fail: {failed}", advice)]
