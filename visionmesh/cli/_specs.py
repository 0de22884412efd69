"""From a command's options to the job that is submitted."""

import typer
from google.protobuf.message import Message

from visionmesh.cli import _values
from visionmesh.cli._submit_options import (
    EmbedOptions,
    FaceOptions,
    FaceVectorOptions,
    InferOptions,
    SubmitOptions,
    TrainOptions,
    ValidateOptions,
)
from visionmesh.v1 import job_pb2, vision_pb2

TASKS = {
    name.removeprefix("TASK_").lower(): number
    for name, number in vision_pb2.Task.items()
    if number != vision_pb2.TASK_UNSPECIFIED
}


def train_spec(options: TrainOptions, dataset: str, checkpoint: str) -> job_pb2.TrainSpec:
    """The spec of a training."""
    spec = job_pb2.TrainSpec(dataset=dataset, checkpoint=checkpoint, pretrained=options.pretrained)
    _fill(spec, options, "model", "epochs", "batch_size", "image_size", "learning_rate", "optimizer")
    _fill(spec, options, "patience", "checkpoint_period", "seed", "primary_metric", "device")
    spec.task = task(options.task)
    if options.minimize:
        spec.primary_metric_mode = vision_pb2.METRIC_MODE_MIN
    spec.hyperparameters.update(_values.settings(options.set))
    return spec


def validate_spec(options: ValidateOptions, dataset: str, checkpoint: str) -> job_pb2.ValidateSpec:
    """The spec of a validation."""
    spec = job_pb2.ValidateSpec(dataset=dataset, checkpoint=checkpoint)
    _fill(spec, options, "split", "model", "max_detections", "batch_size", "image_size", "device")
    _fill_thresholds(spec, options)
    spec.task = task(options.task)
    spec.hyperparameters.update(_values.settings(options.set))
    return spec


def infer_spec(options: InferOptions, images: job_pb2.ImageSource, checkpoint: str) -> job_pb2.InferSpec:
    """The spec of an inference."""
    spec = job_pb2.InferSpec(images=images, checkpoint=checkpoint, save_overlays=options.save_overlays)
    spec.prompts.extend(_values.box_prompt(text) for text in options.prompt_box)
    spec.prompts.extend(_values.point_prompt(text) for text in options.prompt_point)
    _fill(spec, options, "model", "max_detections", "top_k", "batch_size", "image_size", "device")
    _fill_thresholds(spec, options)
    spec.task = task(options.task)
    spec.hyperparameters.update(_values.settings(options.set))
    return spec


def embed_spec(options: EmbedOptions, images: job_pb2.ImageSource, checkpoint: str) -> job_pb2.EmbedSpec:
    """The spec of an embedding."""
    spec = job_pb2.EmbedSpec(images=images, checkpoint=checkpoint, inline_values=options.inline)
    _fill(spec, options, "model", "normalize", "batch_size", "image_size", "device")
    spec.hyperparameters.update(_values.settings(options.set))
    return spec


def detect_faces_spec(
    options: FaceOptions, images: job_pb2.ImageSource, checkpoint: str
) -> job_pb2.DetectFacesSpec:
    """The spec of a search for faces."""
    spec = job_pb2.DetectFacesSpec(images=images, checkpoint=checkpoint, save_overlays=options.save_overlays)
    _fill(spec, options, "model", "max_faces", "save_crops", "device")
    if options.confidence is not None:
        spec.confidence_threshold = options.confidence
    spec.hyperparameters.update(_values.settings(options.set))
    return spec


def embed_faces_spec(
    options: FaceVectorOptions, detection: job_pb2.DetectFacesSpec, checkpoint: str
) -> job_pb2.EmbedFacesSpec:
    """The spec of faces turned into vectors; `checkpoint` is what does so."""
    spec = job_pb2.EmbedFacesSpec(
        detection=detection, embedding_checkpoint=checkpoint, inline_values=options.inline
    )
    _fill(spec, options, "embedding_model", "normalize")
    return spec


def queued(job: job_pb2.Job, options: SubmitOptions) -> job_pb2.Job:
    """`job`, with what `options` say of its way through the queue."""
    job.display_name, job.framework = options.name, options.framework
    _fill(job, options, "priority")
    job.depends_on.extend(_values.job_name(name) for name in options.after)
    job.labels.update(_values.labels(options.label))
    job.runner_selector.update(_values.labels(options.runner))
    _fill(job.resources, options, "gpus", "gpu_memory_mib", "cpus")
    _fill(job.retry_policy, options, "max_attempts")
    if options.run_timeout:
        job.run_timeout.FromTimedelta(_values.duration(options.run_timeout))
    if options.queue_timeout:
        job.queue_timeout.FromTimedelta(_values.duration(options.queue_timeout))
    return job


def weights(checkpoint: str, model: str) -> None:
    """Refuse a command that names neither, before anything is sent."""
    if not checkpoint and not model:
        text = "say with which weights: a checkpoint, or --model for what its makers have published"
        raise typer.BadParameter(text, param_hint="--checkpoint")


def task(text: str) -> vision_pb2.Task.ValueType:
    """The task of that name; unspecified for none."""
    if not text:
        return vision_pb2.TASK_UNSPECIFIED
    if text not in TASKS:
        raise typer.BadParameter(f"{text!r} is not a task; one of {', '.join(TASKS)}", param_hint="--task")
    return TASKS[text]


def _fill_thresholds(
    spec: job_pb2.ValidateSpec | job_pb2.InferSpec, options: ValidateOptions | InferOptions
) -> None:
    if options.confidence is not None:
        spec.confidence_threshold = options.confidence
    if options.iou is not None:
        spec.iou_threshold = options.iou


def _fill(message: Message, options: object, *names: str) -> None:
    """Set the fields that were given; the others keep the server's defaults."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value != "":
            try:
                setattr(message, name, value)
            except ValueError as error:  # past the range of the field's type, such as 2**40 epochs
                hint = f"--{name.replace('_', '-')}"
                raise typer.BadParameter(f"{value} is out of range", param_hint=hint) from error
