"""The demo's three jobs."""

from dataclasses import dataclass

from visionmesh.client import AsyncClient, AsyncJobHandle
from visionmesh.v1 import job_pb2, vision_pb2

EPOCHS = 8
IMAGE_SIZE = 96

# What lets a stock YOLO learn from 96 small images: gradients of each batch are used at once
# (nbs), statistics adapt fast (bn_momentum), and colours, which tell the classes, stay as they are.
HYPERPARAMETERS = {
    "nbs": 8,
    "warmup_epochs": 1,
    "mosaic": 0,
    "scale": 0.1,
    "translate": 0.05,
    "hsv_h": 0,
    "hsv_s": 0.1,
    "hsv_v": 0.1,
    "cls": 1.0,
    "bn_momentum": 0.1,
}


@dataclass(frozen=True)
class Pipeline:
    """Three jobs, each using what the first one made."""

    train: AsyncJobHandle
    validate: AsyncJobHandle
    infer: AsyncJobHandle

    @property
    def handles(self) -> tuple[AsyncJobHandle, AsyncJobHandle, AsyncJobHandle]:
        """In the order in which they run."""
        return (self.train, self.validate, self.infer)


async def submit_pipeline(client: AsyncClient, dataset: str) -> Pipeline:
    """Submit all three at once: the mesh starts the second and third when the first has succeeded."""
    train = await client.create_job(train_job(dataset))
    best = f"{train.name}/artifacts/best"
    validate = await client.create_job(validate_job(dataset, best))
    infer = await client.create_job(infer_job(dataset, best))
    return Pipeline(train, validate, infer)


def train_job(dataset: str) -> job_pb2.Job:
    """Eight epochs of the smallest stock model."""
    spec = job_pb2.TrainSpec(
        model="yolo11n",
        task=vision_pb2.TASK_DETECT,
        dataset=dataset,
        epochs=EPOCHS,
        batch_size=8,
        image_size=IMAGE_SIZE,
        learning_rate=0.003,
        optimizer="AdamW",
        seed=0,
        device="cpu",
    )
    spec.hyperparameters.update(HYPERPARAMETERS)
    return job_pb2.Job(display_name="demo: train", train=spec)


def validate_job(dataset: str, checkpoint: str) -> job_pb2.Job:
    """Measure the best checkpoint on the validation split."""
    spec = job_pb2.ValidateSpec(
        dataset=dataset, checkpoint=checkpoint, split="val", image_size=IMAGE_SIZE, device="cpu"
    )
    return job_pb2.Job(display_name="demo: validate", validate=spec)


def infer_job(dataset: str, checkpoint: str) -> job_pb2.Job:
    """Predict on the test split, which the training has not seen."""
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset, split="test"))
    spec = job_pb2.InferSpec(
        checkpoint=checkpoint, images=images, image_size=IMAGE_SIZE, device="cpu", save_overlays=True
    )
    return job_pb2.Job(display_name="demo: infer", infer=spec)
