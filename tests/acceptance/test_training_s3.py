"""A real training on S3: two buckets as people have them, from the upload of the images to the checkpoint."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from ceph_server import CephServer

from visionmesh.cli.mesh import MeshSettings, local_mesh
from visionmesh.client import AsyncClient
from visionmesh.shapes import write_shapes
from visionmesh.storage import open_store
from visionmesh.v1 import job_pb2, vision_pb2

DEADLINE = 200.0


async def test_a_training_on_two_buckets(
    ceph: CephServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets, artifacts = ceph.new_bucket("training-datasets"), ceph.new_bucket("training-checkpoints")
    for name, value in ceph.variables.items():
        monkeypatch.setenv(name, value)
    write_shapes(tmp_path / "shapes", train=32, val=16, test=0, size=64)
    settings = MeshSettings(tmp_path / "mesh", datasets=f"s3://{datasets}", artifacts=f"s3://{artifacts}")
    async with (
        asyncio.timeout(DEADLINE),
        local_mesh(settings) as mesh,
        AsyncClient(mesh.address) as client,
    ):
        dataset = await client.create_dataset(tmp_path / "shapes", "shapes")
        assert dataset.uri == "s3://training-datasets/datasets/shapes/"
        spec = job_pb2.TrainSpec(
            model="yolo11n", dataset=dataset.name, epochs=2, image_size=64, batch_size=8, device="cpu"
        )
        job = await client.create_job(job_pb2.Job(train=spec))
        lines = [event.update.log_line.message async for event in job.watch()]
        ended = await job.get()
        assert ended.state == vision_pb2.JOB_STATE_SUCCEEDED, ended.error.message
        told = {artifact.name.rpartition("/")[2]: artifact async for artifact in job.artifacts()}
        assert not [line for line in lines if "through the scheduler" in line]
        spec = job_pb2.ValidateSpec(dataset=dataset.name, checkpoint=told["best"].name)
        validated = await client.create_job(job_pb2.Job(validate=spec))
        assert (await validated.wait()).state == vision_pb2.JOB_STATE_SUCCEEDED
    found = await objects(f"s3://{artifacts}")
    number = job.name.removeprefix("jobs/")
    for name in ("best", "last"):
        path = f"checkpoints/{number}/{name}.pt"
        assert hashlib.sha256(found[path]).hexdigest() == told[name].sha256
    assert any(path.startswith(f"validation/{validated.name.removeprefix('jobs/')}/") for path in found)
    kept = await objects(f"s3://{datasets}")
    images = [path for path in kept if path.startswith("datasets/shapes/images/")]
    print(f"{len(images)} images in training-datasets, {len(found)} files in training-checkpoints")
    assert len(images) == 48
    here = {path.name for path in (tmp_path / "mesh").iterdir()}
    assert not here & {"datasets", "artifacts"}


async def objects(url: str) -> dict[str, bytes]:
    """Everything in a store, by key."""
    store = open_store(url)
    try:
        keys = [found.key async for found in store.entries("")]
        return {key: b"".join([chunk async for chunk in store.get(key)]) for key in keys}
    finally:
        await store.close()
