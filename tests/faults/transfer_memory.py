"""How much an agent grows while it moves one large object to a bucket and back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from ceph_server import CephServer
from fault_mesh import FaultMesh, Follower, fault_mesh, followed, state, training

from visionmesh.v1 import job_pb2

MIB = 1024 * 1024
_EVERY_SECONDS = 0.02


@dataclass
class Growth:
    """What one way of the object came to."""

    mib: float
    """Most resident memory beyond that at the agent's start, in MiB."""

    seconds: float
    """From the first event of the job to its end."""


async def moved(ceph: CephServer, folder: Path, object_mib: int, patience: float) -> tuple[Growth, Growth]:
    """The growth of an agent that sends an object of `object_mib`, and of a new one that fetches it."""
    stores = {f"{name}_url": f"s3://{ceph.new_bucket()}" for name in ("datasets", "artifacts")}
    variables = {name.lower(): value for name, value in ceph.variables.items()}
    async with fault_mesh(folder, **stores, **variables) as (mesh, _):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ceph.variables.items():
                patch.setenv(name, value)
            job = training(epochs=1, checkpoint_kib=object_mib * 1024)
            sent, name = await _run(mesh, "sends", job, patience)
            job = training(epochs=1)
            job.train.checkpoint = f"{name}/artifacts/last"
            fetched, _ = await _run(mesh, "fetches", job, patience)
    return sent, fetched


async def _run(mesh: FaultMesh, agent_id: str, job: job_pb2.Job, patience: float) -> tuple[Growth, str]:
    agent = await mesh.agent(agent_id)
    began = time.monotonic()
    process = psutil.Process(agent.pid)
    async with sampled(process) as growth, followed(mesh, job, patience) as running:
        ended = await running.end()
    _check(running, state(ended))
    growth.seconds = time.monotonic() - began
    assert await agent.stop() == 0
    return growth, ended.name


def _check(running: Follower, ended: str) -> None:
    """It went to the bucket itself, and well."""
    assert ended == "SUCCEEDED", running.endings
    assert not [line for line in running.lines if "through the scheduler" in line]


@asynccontextmanager
async def sampled(process: psutil.Process) -> AsyncIterator[Growth]:
    """The growth of a process while the context lasts."""
    start = process.memory_info().rss
    growth = Growth(0.0, 0.0)

    async def sample() -> None:
        while True:
            growth.mib = max(growth.mib, (process.memory_info().rss - start) / MIB)
            await asyncio.sleep(_EVERY_SECONDS)

    sampling = asyncio.create_task(sample())
    try:
        yield growth
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
