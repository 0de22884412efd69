"""A job's spec reaches the job process whole, and nothing else of the agent does."""

from pathlib import Path

import pytest

from runners.agent.job_environment import (
    LocalInputs,
    UnknownKind,
    base_environment,
    gpu_environment,
    job_environment,
)
from runners.process.environment import JobEnvironment
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

OUTPUT = Path("/data/output")
NOTHING = LocalInputs()


def assignment(**spec: object) -> runner_pb2.Assignment:
    return runner_pb2.Assignment(job=job_pb2.Job(name="jobs/j-1", **spec), attempt=3)


def told(assigned: runner_pb2.Assignment, inputs: LocalInputs = NOTHING) -> JobEnvironment:
    """What the job process reads in the end."""
    return JobEnvironment.read(job_environment(assigned, inputs, OUTPUT).to_environ())


def test_a_training_with_every_setting():
    spec = job_pb2.TrainSpec(
        model="yolo11n",
        task=vision_pb2.TASK_DETECT,
        dataset="datasets/shapes",
        epochs=7,
        batch_size=4,
        image_size=96,
        learning_rate=0.003,
        optimizer="AdamW",
        patience=0,
        checkpoint_period=2,
        device="cuda:0",
        seed=42,
        primary_metric="val_loss",
        primary_metric_mode=vision_pb2.METRIC_MODE_MIN,
    )
    spec.hyperparameters.update({"mosaic": 0.5, "cos_lr": True, "name": "x"})
    assigned = assignment(train=spec)
    inputs = LocalInputs(
        dataset=Path("/d"),
        checkpoint=Path("/c/last.pt"),
        resume=True,
        start_checkpoint=Path("/c/named.pt"),
    )
    assert told(assigned, inputs) == JobEnvironment(
        kind="train",
        job_id="j-1",
        attempt=3,
        dataset_path=Path("/d"),
        checkpoint_path=Path("/c/last.pt"),
        output_path=OUTPUT,
        model_name="yolo11n",
        task="detect",
        epochs=7,
        batch_size=4,
        image_size=96,
        learning_rate=0.003,
        optimizer="AdamW",
        patience=0,
        checkpoint_period=2,
        device="cuda:0",
        seed=42,
        primary_metric="val_loss",
        primary_metric_mode="min",
        hyperparameters={"mosaic": 0.5, "cos_lr": True, "name": "x"},
        resume=True,
        start_checkpoint_path=Path("/c/named.pt"),
    )


def test_a_validation_with_every_setting():
    spec = job_pb2.ValidateSpec(
        dataset="datasets/shapes",
        checkpoint="jobs/a/artifacts/best",
        split="test",
        confidence_threshold=0.0,
        iou_threshold=0.6,
        max_detections=50,
        batch_size=2,
        image_size=64,
        device="cpu",
    )
    inputs = LocalInputs(dataset=Path("/d"), checkpoint=Path("/c/best.pt"))
    read = told(assignment(validate=spec), inputs)
    assert (read.kind, read.split, read.confidence_threshold, read.iou_threshold) == (
        "validate",
        "test",
        0.0,
        0.6,
    )
    assert (read.max_detections, read.batch_size, read.image_size, read.device) == (50, 2, 64, "cpu")
    assert (read.dataset_path, read.checkpoint_path) == (Path("/d"), Path("/c/best.pt"))


def test_an_inference_with_every_setting():
    spec = job_pb2.InferSpec(
        checkpoint="uploads/u", confidence_threshold=0.1, top_k=3, save_overlays=True, max_detections=9
    )
    spec.prompts.add(image_index=2).box.x_max = 12.5
    inputs = LocalInputs(checkpoint=Path("/c"), images=Path("/i.jsonl"), first_image_index=17)
    read = told(assignment(infer=spec), inputs)
    assert (read.kind, read.top_k, read.save_overlays, read.max_detections) == ("infer", 3, True, 9)
    assert (read.image_paths, read.first_image_index) == (Path("/i.jsonl"), 17)
    assert read.prompts == tuple(spec.prompts)
    assert read.batch_size == 8, "the inference default, not the training's"


def test_what_is_not_set_stays_at_the_default():
    read = told(assignment(train=job_pb2.TrainSpec(model="m", dataset="datasets/d")))
    assert read == JobEnvironment(job_id="j-1", attempt=3, output_path=OUTPUT, model_name="m")


def test_an_embedding_with_every_setting():
    spec = job_pb2.EmbedSpec(model="resnet18", normalize=False, batch_size=3, inline_values=True)
    read = told(assignment(embed=spec))
    assert (read.kind, read.model_name, read.batch_size) == ("embed", "resnet18", 3)
    assert (read.normalize, read.inline_values) == (False, True)
    unsaid = told(assignment(embed=job_pb2.EmbedSpec(model="resnet18")))
    assert (unsaid.normalize, unsaid.inline_values, unsaid.batch_size) == (True, False, 8)


FACES = job_pb2.DetectFacesSpec(
    model="yunet",
    confidence_threshold=0.5,
    max_faces=7,
    device="cpu",
    save_crops=False,
    save_overlays=True,
    hyperparameters={"min_size": 50},
)


def test_a_search_for_faces_with_every_setting():
    inputs = LocalInputs(checkpoint=Path("/c.onnx"), images=Path("/i.jsonl"), first_image_index=2)
    read = told(assignment(detect_faces=FACES), inputs)
    assert (read.kind, read.model_name, read.checkpoint_path) == ("detect_faces", "yunet", Path("/c.onnx"))
    assert (read.confidence_threshold, read.max_detections, read.device) == (0.5, 7, "cpu")
    assert (read.save_crops, read.save_overlays, read.hyperparameters) == (False, True, {"min_size": 50})
    assert (read.first_image_index, read.batch_size) == (2, 1)
    assert told(assignment(detect_faces=job_pb2.DetectFacesSpec())).save_crops


def test_vectors_of_faces_with_every_setting():
    spec = job_pb2.EmbedFacesSpec(
        detection=FACES, embedding_model="sface", normalize=False, inline_values=True
    )
    inputs = LocalInputs(checkpoint=Path("/c.onnx"), embedding_checkpoint=Path("/e.onnx"))
    read = told(assignment(embed_faces=spec), inputs)
    assert (read.kind, read.model_name, read.max_detections) == ("embed_faces", "yunet", 7)
    assert (read.embedding_model_name, read.embedding_checkpoint_path) == ("sface", Path("/e.onnx"))
    assert (read.checkpoint_path, read.normalize, read.inline_values) == (Path("/c.onnx"), False, True)
    assert (read.save_crops, read.save_overlays, read.hyperparameters) == (False, True, {"min_size": 50})


def test_a_kind_of_a_newer_version_is_refused():
    with pytest.raises(UnknownKind, match="cannot run jobs of kind ''; it can run train, "):
        job_environment(assignment(), LocalInputs(), OUTPUT)


def test_only_known_harmless_variables_are_inherited():
    environ = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "1",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "VISIONMESH_TOKEN": "secret",
        "HF_TOKEN": "secret",
        "DATABASE_URL": "secret",
    }
    assert base_environment(environ) == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "1",
    }


def test_a_job_sees_its_gpus_only():
    assert gpu_environment([]) == {}
    assert gpu_environment([2, 0]) == {"CUDA_VISIBLE_DEVICES": "2,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
