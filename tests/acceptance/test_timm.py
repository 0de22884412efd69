"""The main job with timm: from class folders to a trained classifier and its answers, over a real mesh."""

from pathlib import Path

import numpy as np
import pytest

from visionmesh import errors
from visionmesh.cli.mesh import MeshSettings, local_mesh
from visionmesh.client import AsyncClient
from visionmesh.shapes import CLASS_NAMES, write_class_folders
from visionmesh.v1 import dataset_pb2, job_pb2, vision_pb2

SUCCEEDED = vision_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.timeout(240)
async def test_class_folders_become_a_classifier(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "shapes", train=96, val=30, test=12)
    settings = MeshSettings(data_dir=tmp_path / "mesh", frameworks=("timm",))
    async with local_mesh(settings) as mesh, AsyncClient(mesh.address) as client:
        dataset = await client.create_dataset(tmp_path / "shapes", "shapes")
        assert (dataset.format, dataset.task) == (
            dataset_pb2.DATASET_FORMAT_CLASS_FOLDERS,
            vision_pb2.TASK_CLASSIFY,
        )
        spec = job_pb2.TrainSpec(
            model="test_efficientnet_gn", dataset=dataset.name, epochs=6, batch_size=8, image_size=64
        )
        spec.learning_rate = 2e-3
        spec.hyperparameters.update({"scale_min": 0.8, "smoothing": 0})
        training = await client.create_job(job_pb2.Job(framework="timm", train=spec))
        assert training.latest is not None
        assert training.latest.train.task == vision_pb2.TASK_CLASSIFY
        assert training.latest.train.primary_metric == "accuracy_top1"
        best = f"{training.name}/artifacts/best"
        validation = await client.create_job(
            job_pb2.Job(
                framework="timm", validate=job_pb2.ValidateSpec(checkpoint=best, dataset=dataset.name)
            )
        )
        images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name))
        inference = await client.create_job(
            job_pb2.Job(framework="timm", infer=job_pb2.InferSpec(checkpoint=best, images=images, top_k=2))
        )
        embedding = await client.create_job(
            job_pb2.Job(embed=job_pb2.EmbedSpec(checkpoint=best, images=images, inline_values=True))
        )
        epochs = [
            event.update.epoch_completed.epoch
            async for event in training.watch()
            if event.update.HasField("epoch_completed")
        ]
        assert epochs == [1, 2, 3, 4, 5, 6]
        for job in (training, validation, inference, embedding):
            ended = await job.wait()
            assert ended.state == SUCCEEDED, ended.error
        learned = (await training.result()).training.best_metrics
        measured = (await validation.result()).validation
        assert learned["accuracy_top1"] > 0.97
        assert measured.metrics["accuracy_top1"] == pytest.approx(learned["accuracy_top1"])
        found = [prediction async for prediction in inference.predictions()]
        right = [p for p in found if f"/test/{p.classifications[0].class_name}/" in p.image_uri]
        assert len(found) == 12
        assert len(right) >= 11
        assert {len(prediction.classifications) for prediction in found} == {2}
        vectors = [prediction.embedding async for prediction in embedding.predictions()]
        assert [len(vector.values) for vector in vectors] == [256] * 12
        first = np.load(await embedding.download(vectors[0].artifact, tmp_path / "0.bin"))
        assert first.tolist() == list(vectors[0].values)
        kept = await training.download("best", tmp_path / "best.safetensors")
        assert kept.stat().st_size > 100_000
        boxes = job_pb2.TrainSpec(model="yolo11n", task=vision_pb2.TASK_DETECT, dataset=dataset.name)
        with pytest.raises(errors.InvalidRequest, match="labelled for classify, and the job is to detect"):
            await client.create_job(job_pb2.Job(train=boxes))
    print(f"accuracy {learned['accuracy_top1']:.3f}; {len(right)} of {len(found)} new images, {CLASS_NAMES}")
