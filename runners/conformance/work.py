"""What the runner is given to do: a small training on images that are made here."""

import hashlib
import io
from collections.abc import Mapping

from PIL import Image

from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

DATASET_URI = "file:///conformance/dataset/"
LONG = 100_000
"""Epochs of a training that does not end before it is made to."""

_CLASSES = {"red": (200, 40, 30), "blue": (30, 60, 210)}
_SPLITS = ("train", "val")
_IMAGES_PER_CLASS = 4


def dataset() -> dict[str, bytes]:
    """Files by path, as a YOLO dataset: red images with a red box, blue images with a blue one."""
    files = {"data.yaml": b"path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: blue\n"}
    for class_id, (name, colour) in enumerate(_CLASSES.items()):
        for number in range(_IMAGES_PER_CLASS):
            shade = tuple(max(0, part - 8 * number) for part in colour)
            encoded = io.BytesIO()
            Image.new("RGB", (32, 32), shade).save(encoded, "PNG")
            for split in _SPLITS:
                files[f"images/{split}/{name}-{number}.png"] = encoded.getvalue()
                files[f"labels/{split}/{name}-{number}.txt"] = f"{class_id} 0.5 0.5 1 1\n".encode()
    return files


def dataset_digest(files: Mapping[str, bytes]) -> str:
    """As Dataset.digest is made."""
    lines = (
        f"{hashlib.sha256(data).hexdigest()} {len(data)} {path}\n" for path, data in sorted(files.items())
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def training(
    job: str, register: runner_pb2.Register, model: str, epochs: int, salt: str = ""
) -> runner_pb2.Assignment:
    """A training for the runner that has registered so; `salt` keeps its cached dataset from being used."""
    spec = job_pb2.TrainSpec(
        model=model or next((known.name for known in register.manifest.models), ""),
        task=next(iter(register.manifest.tasks), vision_pb2.TASK_DETECT),
        dataset="datasets/conformance",
        epochs=epochs,
        batch_size=4,
        image_size=32,
        device="cpu",
    )
    given = runner_pb2.DatasetInput(
        name="datasets/conformance",
        digest="" if salt else dataset_digest(dataset()),
        class_names=list(_CLASSES),
        splits=list(_SPLITS),
        uri=DATASET_URI,
    )
    described = job_pb2.Job(name=job, framework=register.manifest.framework, train=spec)
    return runner_pb2.Assignment(job=described, attempt=1, dataset=given)


def objects() -> dict[str, bytes]:
    """What the store holds, by URI."""
    return {DATASET_URI + path: data for path, data in dataset().items()}
