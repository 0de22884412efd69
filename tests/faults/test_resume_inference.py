"""A real inference whose agent is killed goes on at the next image; nothing of it is lost or made twice."""

import asyncio
from collections import Counter
from pathlib import Path

from fault_mesh import fault_mesh, state

from visionmesh.client import AsyncJobHandle
from visionmesh.shapes import write_class_folders
from visionmesh.v1 import job_pb2, result_pb2

IMAGES = 80
KILLED_AFTER = 15
PATIENCE = 120.0


def learning() -> job_pb2.Job:
    spec = job_pb2.TrainSpec(
        model="test_efficientnet_gn", dataset="datasets/classes", epochs=1, image_size=64
    )
    return job_pb2.Job(framework="timm", train=spec)


def inferring(checkpoint: str) -> job_pb2.Job:
    """Pictures of its answers, one image at a time."""
    images = job_pb2.ImageSource(
        dataset_images=job_pb2.DatasetImages(dataset="datasets/classes", split="train")
    )
    spec = job_pb2.InferSpec(checkpoint=checkpoint, images=images, save_overlays=True, batch_size=1, top_k=2)
    job = job_pb2.Job(framework="timm", infer=spec)
    job.retry_policy.initial_backoff.FromMilliseconds(10)
    return job


async def test_a_killed_inference_goes_on_after_the_last_durable_image(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path, lease_seconds=2, heartbeat_seconds=0.4) as (mesh, _):
        write_class_folders(tmp_path / "classes", train=IMAGES, val=6, test=0)
        await mesh.client.create_dataset(tmp_path / "classes", "classes")
        first = await mesh.agent("one", "timm")
        training = await mesh.client.create_job(learning())
        await training.wait(PATIENCE, check=True)
        killed = await mesh.client.create_job(inferring(f"{training.name}/artifacts/best"))
        await _predicted(killed, KILLED_AFTER)
        await first.kill()
        await mesh.agent("two", "timm")
        ended = await killed.wait(PATIENCE)
        live = [image.index async for _, image in killed.watch_predictions()]
        predictions = [each async for each in killed.predictions()]
        drawn = {each.name: each async for each in killed.artifacts()}
        totals = (await killed.result()).inference
        fetched = await _fetched(killed)
        for each in predictions[:: IMAGES // 5]:
            picture = await killed.download(drawn[each.overlay_artifact], tmp_path / "picture.jpg")
            assert picture.read_bytes().startswith(b"\xff\xd8\xff")
        straight = await mesh.client.create_job(inferring(f"{training.name}/artifacts/best"))
        await straight.wait(PATIENCE, check=True)
        expected = [each async for each in straight.predictions()]
    by_attempt = Counter(each.attempt for each in drawn.values())
    print(f"images by attempt {dict(by_attempt)}, files fetched {fetched}")
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 2, 1)
    assert [each.index for each in predictions] == list(range(IMAGES))
    assert sorted(live) == list(range(IMAGES))
    assert {each.overlay_artifact for each in predictions} == drawn.keys()
    assert by_attempt[1] >= KILLED_AFTER
    assert 0 < by_attempt[2] < IMAGES
    assert fetched[1] <= IMAGES - KILLED_AFTER + 1  # and the checkpoint
    assert (totals.total_images, totals.failed_images) == (IMAGES, 0)
    told = sum(each.timings.inference_ms for each in predictions)
    assert abs(totals.total_inference_time_ms - told) < 1e-3 * told
    assert [_answer(each) for each in predictions] == [_answer(each) for each in expected]


async def _predicted(job: AsyncJobHandle, count: int) -> None:
    """Wait until so many images are predicted."""
    async with asyncio.timeout(PATIENCE):
        seen = 0
        async for _ in job.watch_predictions():
            seen += 1
            if seen == count:
                return


async def _fetched(job: AsyncJobHandle) -> list[int]:
    """Files that each attempt has fetched."""
    details = [event.update.stage_changed.detail async for event in job.events()]
    return [int(detail.split()[1]) for detail in details if detail.startswith("fetched ")]


def _answer(prediction: result_pb2.ImagePrediction) -> tuple[str, list[tuple[str, float]]]:
    classes = [(each.class_name, round(each.confidence, 4)) for each in prediction.classifications]
    return prediction.image_uri, classes
