"""Faces over a real mesh: from uploaded photographs to crops and vectors in the store."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from onnx_models import write_embedder
from PIL import Image

from visionmesh import errors
from visionmesh.cli.mesh import MeshSettings, local_mesh
from visionmesh.client import AsyncClient
from visionmesh.v1 import job_pb2, result_pb2, vision_pb2

SUCCEEDED = vision_pb2.JOB_STATE_SUCCEEDED


def photograph(name: str) -> Path:
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "assets" / name


@pytest.mark.timeout(240)
async def test_photographs_become_crops_and_vectors(tmp_path: Path) -> None:
    write_embedder(tmp_path / "sface.onnx")
    settings = MeshSettings(data_dir=tmp_path / "mesh", frameworks=("faces",))
    async with local_mesh(settings) as mesh, AsyncClient(mesh.address) as client:
        upload = await client.upload_file(photograph("bus.jpg"))
        images = job_pb2.ImageSource(upload=upload.name)
        detection = job_pb2.DetectFacesSpec(images=images)
        with pytest.raises(errors.InvalidRequest, match="Vectors of random weights say nothing"):
            await client.create_job(job_pb2.Job(embed_faces=job_pb2.EmbedFacesSpec(detection=detection)))
        finding = await client.create_job(job_pb2.Job(detect_faces=detection))
        weights = await client.upload_file(tmp_path / "sface.onnx")
        spec = job_pb2.EmbedFacesSpec(
            detection=detection, embedding_checkpoint=weights.name, inline_values=True
        )
        embedding = await client.create_job(job_pb2.Job(embed_faces=spec))
        for job in (finding, embedding):
            ended = await job.wait()
            assert ended.state == SUCCEEDED, ended.error
            assert ended.framework == "faces"
        (found,) = [prediction async for prediction in finding.predictions()]
        assert len(found.faces) == 2
        crop = await finding.download(found.faces[0].crop_artifact, tmp_path / "crop.jpg")
        with Image.open(crop) as opened:
            assert opened.width > 50
        (embedded,) = [prediction async for prediction in embedding.predictions()]
        assert [face.box for face in embedded.faces] == [face.box for face in found.faces]
        vector = embedded.faces[1].embedding
        kept = np.load(await embedding.download(vector.artifact, tmp_path / "1.bin"))
        assert (kept.dtype, kept.tolist()) == (np.float32, list(vector.values))
        kinds = {
            artifact.name.partition("/artifacts/")[2]: artifact.kind
            async for artifact in embedding.artifacts()
        }
    assert kinds == {
        **{f"faces/{number}.jpg": result_pb2.ARTIFACT_KIND_FACE_CROP for number in (0, 1)},
        **{f"faces/{number}.bin": result_pb2.ARTIFACT_KIND_EMBEDDING for number in (0, 1)},
    }
    folder = tmp_path / "mesh" / "artifacts" / embedding.name / "faces"  # where people look for them
    assert sorted(path.name for path in folder.iterdir()) == ["0.bin", "0.jpg", "1.bin", "1.jpg"]
