"""A scheduler whose stores are buckets: what it does at its start, and what it says when it cannot."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from ceph_server import CephServer
from faulty_s3 import Fault, FaultyS3, faulty
from live_scheduler import Mesh, running

from scheduler import settings as configuration
from scheduler.doctor import findings
from scheduler.refusal import CannotStart, Refusal
from visionmesh.errors import MeshError, Reason
from visionmesh.shapes import write_shapes
from visionmesh.storage import _s3_client as s3_client
from visionmesh.storage import open_store
from visionmesh.v1 import job_pb2


@pytest.fixture
def buckets(ceph: CephServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two new buckets, as settings; the environment tells where they are."""
    for name, value in ceph.variables.items():
        monkeypatch.setenv(name, value)
    return {f"{name}_url": f"s3://{ceph.new_bucket()}/mesh" for name in ("datasets", "artifacts")}


async def start(folder: Path, **settings: str) -> None:
    async with running(folder, **settings):
        pass


async def test_wrong_credentials_stop_the_start(
    tmp_path: Path, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_SECRET_KEY", "wrong")
    with pytest.raises(CannotStart, match=r"does not accept.*Set STORAGE_ACCESS_KEY") as refusal:
        await start(tmp_path, **buckets)
    assert refusal.value.reason is Refusal.STORE_UNUSABLE


async def test_a_missing_bucket_stops_the_start(tmp_path: Path, buckets: dict[str, str]) -> None:
    with pytest.raises(CannotStart, match=r"s3://nowhere at .* does not exist\. Create it"):
        await start(tmp_path, **buckets | {"artifacts_url": "s3://nowhere/mesh"})


async def test_a_server_that_is_not_there_stops_the_start(
    tmp_path: Path, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASETS_STORAGE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CannotStart, match="See that the server runs and STORAGE_ENDPOINT"):
        await start(tmp_path, **buckets)


async def test_half_a_pair_of_keys_stops_the_start(
    tmp_path: Path, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_SECRET_KEY")
    with pytest.raises(CannotStart, match="STORAGE_ACCESS_KEY is set and STORAGE_SECRET_KEY is not"):
        await start(tmp_path, **buckets)


async def test_the_refusal_reaches_the_terminal(tmp_path: Path, ceph: CephServer) -> None:
    scheduler = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scheduler", "--port", "0", "--data-dir", str(tmp_path),
        "--artifacts-url", "s3://nowhere", env=os.environ | ceph.variables,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, said = await scheduler.communicate()
    assert scheduler.returncode == 2
    assert "does not exist" in said.decode()
    assert "[STORE_UNUSABLE]" in said.decode()


async def test_the_doctor_looks_into_the_buckets(
    tmp_path: Path, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = buckets | {"artifacts_url": "s3://nowhere"}
    settings = configuration.read(data_dir=tmp_path, **wrong)
    found = {each.check: each async for each in findings(settings)}
    assert found["datasets store"].verdict == "ok"
    assert "put, read, compared and removed" in found["datasets store"].seen
    assert found["artifacts store"].verdict == "problem"
    assert "Create it" in found["artifacts store"].advice


@asynccontextmanager
async def behind_proxy(
    ceph: CephServer, folder: Path, buckets: dict[str, str], patch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Mesh, FaultyS3]]:
    """A scheduler, with a dataset, that reaches its buckets through a proxy."""
    write_shapes(folder / "shapes", train=6, val=4, test=3, size=32)
    async with faulty(ceph.port) as proxy:
        patch.setenv("STORAGE_ENDPOINT", proxy.endpoint)
        patch.setenv("STORAGE_TIMEOUT_SECONDS", "2")
        async with running(folder / "data", **buckets) as mesh:
            await mesh.client.create_dataset(folder / "shapes", dataset_id="shapes")
            yield mesh, proxy


async def test_an_assignment_waits_for_a_store_that_is_away(
    tmp_path: Path, ceph: CephServer, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind_proxy(ceph, tmp_path, buckets, monkeypatch) as (mesh, proxy):
        upload = (await mesh.upload("weights.pt", b"weights")).name
        job = await mesh.create(infer_split(upload))
        proxy.fault = Fault("refuse")
        async with mesh.runner("ultralytics") as runner:
            await until(lambda: proxy.fault.struck > 2 * s3_client.TRIES)  # it was asked anew
            assert runner.assignments.empty()
            proxy.fault = None
            assert (await runner.take()).job.name == job.name


async def test_a_store_that_hangs_holds_up_nobody_who_needs_none(
    tmp_path: Path, ceph: CephServer, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind_proxy(ceph, tmp_path, buckets, monkeypatch) as (mesh, proxy):
        upload = (await mesh.upload("weights.pt", b"weights")).name
        known = await mesh.create(infer_split(upload))
        proxy.fault = Fault("hang")
        waiting = [asyncio.create_task(mesh.create(infer_split(upload))) for _ in range(30)]
        await until(lambda: proxy.fault.struck >= len(waiting))  # more than the database has places
        for _ in range(10):
            assert (await mesh.get(known.name)).name == known.name
        assert not [task for task in waiting if task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not seen():  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.02)


def infer_split(checkpoint: str) -> job_pb2.Job:
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset="datasets/shapes", split="val"))
    return job_pb2.Job(framework="ultralytics", infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images))


async def test_datasets_jobs_and_files_in_buckets(tmp_path: Path, buckets: dict[str, str]) -> None:
    write_shapes(tmp_path / "shapes", train=6, val=4, test=3, size=32)
    async with running(tmp_path / "data", **buckets) as mesh:
        dataset = await mesh.client.create_dataset(tmp_path / "shapes", dataset_id="shapes")
        assert dataset.uri == buckets["datasets_url"] + "/datasets/shapes/"
        spec = job_pb2.TrainSpec(model="yolo11n", dataset=dataset.name, epochs=1)
        async with mesh.runner("ultralytics") as runner:
            job = await mesh.create(job_pb2.Job(train=spec, framework="ultralytics"))
            assignment = await runner.take()
            fetched = await runner.fetch(job.name, 1, assignment.dataset.uri)
            assert sum(path.startswith("images/") for path in fetched) == 13
            uri = await runner.store(job.name, 1, "best.pt", b"weights")
            assert uri == f"{buckets['artifacts_url']}/attempts/{job.name.removeprefix('jobs/')}/1/best.pt"
        upload = (await mesh.upload("weights.pt", b"weights")).name
        with pytest.raises(MeshError, match="no image") as refusal:
            await mesh.create(infer(upload, f"{buckets['datasets_url']}/nothing/"))
        assert refusal.value.reason == Reason.IMAGES_NOT_FOUND
        with pytest.raises(MeshError, match="inside the configured stores"):
            await mesh.create(infer(upload, "s3://other-bucket/a.jpg"))
        images = f"{dataset.uri}images/val/"
        assert (await mesh.create(infer(upload, images))).name
        await mesh.client.create_dataset(tmp_path / "shapes", dataset_id="gone")
        await mesh.client.delete_dataset("datasets/gone")
    assert not (tmp_path / "data" / "datasets").exists()
    store = open_store(buckets["datasets_url"])
    try:
        left = [found.key async for found in store.entries("datasets/gone")]
    finally:
        await store.close()
    assert left == []


def infer(checkpoint: str, uri: str) -> job_pb2.Job:
    source = job_pb2.ImageSource(uris=job_pb2.ImageUris(uris=[uri]))
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint=checkpoint, images=source))
