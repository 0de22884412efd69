"""An S3 that fails while a mesh works on it (rows 26 and 27): jobs bear it, nothing false is taken."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from ceph_server import CephServer
from fault_mesh import FaultMesh, Follower, fault_mesh, followed, state, training
from faulty_s3 import Fault, FaultyS3, faulty

from visionmesh.storage import open_store

PATIENCE = 180.0
"""Seconds: tries with doubling waits add up, and the machine may be busy."""


@asynccontextmanager
async def mesh_on(ceph: CephServer, folder: Path, **agent: str) -> AsyncIterator[tuple[FaultMesh, FaultyS3]]:
    """A mesh on two new buckets behind a proxy that behaves so far, and an agent that goes there itself."""
    async with faulty(ceph.port) as proxy:
        variables = {**ceph.variables, "STORAGE_ENDPOINT": proxy.endpoint, "STORAGE_TIMEOUT_SECONDS": "5"}
        stores = {f"{name}_url": f"s3://{ceph.new_bucket()}" for name in ("datasets", "artifacts")}
        settings = {name.lower(): value for name, value in variables.items()}
        async with fault_mesh(folder, **stores, **settings) as (mesh, _):
            with pytest.MonkeyPatch.context() as patch:
                for name, value in (variables | agent).items():
                    patch.setenv(name, value)
                await mesh.agent("one")
            yield mesh, proxy


async def checkpoint(mesh: FaultMesh, ceph: CephServer, job: Follower) -> tuple[bytes, str]:
    """The published last checkpoint, as it is in the bucket, and the digest that the job tells of it."""
    (last,) = [artifact async for artifact in job.job.artifacts() if artifact.name.endswith("/last")]
    store = open_store(str(mesh.settings["artifacts_url"]), s3=ceph.settings)
    try:
        key = f"checkpoints/{job.job.name.removeprefix('jobs/')}/last.pt"
        return b"".join([chunk async for chunk in store.get(key)]), last.sha256
    finally:
        await store.close()


async def test_jobs_bear_a_store_that_fails_for_a_while(ceph: CephServer, tmp_path: Path) -> None:
    async with mesh_on(ceph, tmp_path) as (mesh, proxy):
        for kind, requests in (("refuse", 4), ("hang", 2), ("slow", 1)):
            await bears(mesh, ceph, proxy, kind, requests)


async def bears(mesh: FaultMesh, ceph: CephServer, proxy: FaultyS3, kind: str, requests: int) -> None:
    """A job runs to its end though its store fails in the middle, until so many requests have felt it."""
    proxy.fault = Fault(kind, "^(PUT|POST) .*/attempts/")  # a job cannot end before its files are there
    job = training(epochs=3, epoch_ms=50, checkpoint_kib=10_000)
    async with followed(mesh, job, PATIENCE) as running:
        await running.sees_epoch(1)
        failed = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while proxy.fault.struck < requests:  # noqa: ASYNC110 - the proxy tells nobody
                await asyncio.sleep(0.05)
        struck, healthy = proxy.fault.struck, time.monotonic()
        if kind != "slow":
            proxy.fault = None
        ended = await running.end()
        recovered = time.monotonic() - healthy
        data, digest = await checkpoint(mesh, ceph, running)
    proxy.fault = None
    away = f"{kind}: {struck} requests in {healthy - failed:.1f} s"
    print(f"{away}; attempts used {ended.attempt}, ended {recovered:.1f} s after the store was well")
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert hashlib.sha256(data).hexdigest() == digest
    assert data.startswith(b"epoch 3 of 1\n")


async def test_inputs_that_are_flipped_are_never_taken(ceph: CephServer, tmp_path: Path) -> None:
    async with mesh_on(ceph, tmp_path) as (mesh, proxy):
        taken = tmp_path / "one" / "datasets" / (await mesh.client.dataset("shapes")).digest
        proxy.fault = Fault("flip_answer", r"^GET .*/images/")
        async with followed(mesh, training(epochs=1), PATIENCE) as job:
            ended = await job.end()
        print(
            f"{proxy.fault.struck} answers flipped: accepted = {int(taken.exists())}; {ended.error.message}"
        )
        assert state(ended) == "FAILED"
        assert job.endings == [(number, "FAILED", "INFRASTRUCTURE") for number in (1, 2, 3)]
        assert "After 3 tries" in ended.error.message
        assert "SHA-256" in ended.error.message
        assert not taken.exists()
        assert job.epochs == {}
        proxy.fault = Fault("flip_answer", r"^GET .*/images/", times=1)
        async with followed(mesh, training(epochs=1), PATIENCE) as job:
            ended = await job.end()
        assert proxy.fault.struck == 1
        sent, given = images(taken), images(tmp_path / "shapes")
    print(f"1 of {len(given)} images flipped once: accepted = 0, attempts used {ended.attempt}")
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 1)
    assert sent == given


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.jpg")}


def environment(process: psutil.Process) -> str:
    """As the process was given it."""
    return Path(f"/proc/{process.pid}/environ").read_text()


async def test_an_agent_with_wrong_keys_goes_through_the_scheduler(ceph: CephServer, tmp_path: Path) -> None:
    async with (
        mesh_on(ceph, tmp_path, STORAGE_SECRET_KEY="wrong") as (mesh, _),
        followed(mesh, training(epochs=1), PATIENCE) as job,
    ):
        ended = await job.end()
        data, digest = await checkpoint(mesh, ceph, job)
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert any("through the scheduler" in line and "STORAGE_ACCESS_KEY" in line for line in job.lines)
    assert hashlib.sha256(data).hexdigest() == digest


async def test_no_job_process_has_the_agents_credentials(ceph: CephServer, tmp_path: Path) -> None:
    async with (
        mesh_on(ceph, tmp_path, AWS_SECRET_ACCESS_KEY="also secret") as (mesh, _),
        followed(mesh, training(hold_after=1, epochs=2), PATIENCE) as job,
    ):
        started = await job.sees(lambda event: event.update.HasField("attempt_started"))
        await job.sees_epoch(1)
        process = psutil.Process(started.update.attempt_started.pid)
        zygote, agent = process.parents()[:2]
        seen = environment(process) + environment(zygote)
        assert ceph.secret_key in environment(agent)
        await job.job.cancel()
        await job.end()
    assert "PATH=" in seen
    for secret in ("STORAGE_", "AWS_", ceph.secret_key, ceph.access_key, "also secret"):
        assert secret not in seen
