"""From a command's options to the job that is submitted."""

from dataclasses import dataclass, field
from typing import Annotated

import typer
from google.protobuf.message import Message

from visionmesh.cli import _values
from visionmesh.cli._options import Output, OutputOption
from visionmesh.v1 import job_pb2, vision_pb2

_QUEUE = "Queueing"
_MODEL = "Model"
_RUN = "Submitting"

TaskOption = Annotated[
    str,
    typer.Option(
        help="detect, segment, classify, pose or obb. Default: what the model is made for.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        help="A model of the framework, such as yolo11n.", show_default=False, rich_help_panel=_MODEL
    ),
]
BatchSizeOption = Annotated[int | None, typer.Option(help="Images per step.", rich_help_panel=_MODEL)]
ImageSizeOption = Annotated[
    int | None, typer.Option(help="Side of the square network input in pixels.", rich_help_panel=_MODEL)
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="cpu, cuda or cuda:0,1. Default: the best that the runner has.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option("--confidence", help="Confidence threshold, 0 to 1. Default 0.25.", rich_help_panel=_MODEL),
]
IouOption = Annotated[
    float | None, typer.Option("--iou", help="IoU threshold, 0 to 1. Default 0.45.", rich_help_panel=_MODEL)
]
DetectionsOption = Annotated[
    int | None, typer.Option(help="Most detections per image. Default 100.", rich_help_panel=_MODEL)
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A hyperparameter by the framework's own name; repeat for more.",
        rich_help_panel=_MODEL,
    ),
]
DetachOption = Annotated[
    bool,
    typer.Option("--detach", "-d", help="Print the job's name and return at once.", rich_help_panel=_RUN),
]
LogsOption = Annotated[
    bool, typer.Option("--logs", help="Show every log line, not only warnings.", rich_help_panel=_RUN)
]
RequestIdOption = Annotated[
    str,
    typer.Option(
        help="Submitting again with this id returns the same job.", show_default=False, rich_help_panel=_RUN
    ),
]
OverlaysOption = Annotated[
    bool,
    typer.Option(
        "--save-overlays", help="Keep each image with its predictions drawn in.", rich_help_panel=_MODEL
    ),
]
NormalizeOption = Annotated[
    bool, typer.Option("--normalize/--raw", help="Scale each vector to length 1.", rich_help_panel=_MODEL)
]
InlineOption = Annotated[
    bool,
    typer.Option(
        "--inline",
        help="Put the numbers into the result too, not only into files.",
        rich_help_panel=_MODEL,
    ),
]
TASKS = {
    name.removeprefix("TASK_").lower(): number
    for name, number in vision_pb2.Task.items()
    if number != vision_pb2.TASK_UNSPECIFIED
}


@dataclass(frozen=True)
class ImageOptions:
    """Which images a job looks at."""

    images: Annotated[
        list[str],
        typer.Option(
            help="A folder, zip or image, which is sent; or dataset:split; or URIs. Repeat for more.",
            show_default=False,
        ),
    ] = field(default_factory=list)
    media: Annotated[
        list[str],
        typer.Option(
            metavar="ID",
            help="Instead of --images: an image of the media store by its id. Repeat for more.",
            show_default=False,
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True)
class TrainOptions:
    """What a training is made of, besides dataset and checkpoint."""

    model: ModelOption = ""
    task: TaskOption = ""
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", "-e", help="Passes over the data. Default 100.", rich_help_panel=_MODEL),
    ] = None
    batch_size: BatchSizeOption = None
    image_size: ImageSizeOption = None
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", "--lr", help="Initial learning rate.", rich_help_panel=_MODEL),
    ] = None
    optimizer: Annotated[
        str, typer.Option(help="Such as AdamW or SGD.", show_default=False, rich_help_panel=_MODEL)
    ] = ""
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many epochs without improvement; 0 never.", rich_help_panel=_MODEL),
    ] = None
    checkpoint_period: Annotated[
        int | None,
        typer.Option(help="Epochs between uploads of the last checkpoint.", rich_help_panel=_MODEL),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Seed of all random numbers. Default 0.", rich_help_panel=_MODEL)
    ] = None
    primary_metric: Annotated[
        str,
        typer.Option(
            help="Metric that decides which checkpoint is best.", show_default=False, rich_help_panel=_MODEL
        ),
    ] = ""
    minimize: Annotated[
        bool, typer.Option("--minimize", help="Less of the primary metric is better.", rich_help_panel=_MODEL)
    ] = False
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained",
            help="Start from what the model's makers have published, where a runner may fetch that.",
            rich_help_panel=_MODEL,
        ),
    ] = False
    device: DeviceOption = ""
    set: SetOption = field(default_factory=list)


@dataclass(frozen=True)
class ValidateOptions:
    """What a validation is made of, besides dataset and checkpoint."""

    split: Annotated[
        str, typer.Option(help="train, val or test. Default val.", show_default=False, rich_help_panel=_MODEL)
    ] = ""
    model: ModelOption = ""
    task: TaskOption = ""
    confidence: ConfidenceOption = None
    iou: IouOption = None
    max_detections: DetectionsOption = None
    batch_size: BatchSizeOption = None
    image_size: ImageSizeOption = None
    device: DeviceOption = ""
    set: SetOption = field(default_factory=list)


@dataclass(frozen=True)
class InferOptions:
    """What an inference is made of, besides images and checkpoint."""

    model: ModelOption = ""
    task: TaskOption = ""
    confidence: ConfidenceOption = None
    iou: IouOption = None
    max_detections: DetectionsOption = None
    top_k: Annotated[
        int | None, typer.Option(help="Most classes per image. Default 5.", rich_help_panel=_MODEL)
    ] = None
    prompt_box: Annotated[
        list[str],
        typer.Option(
            metavar="LEFT,TOP,RIGHT,BOTTOM[@IMAGE]",
            help="Outline the object in this box, with SAM; repeat for more.",
            rich_help_panel=_MODEL,
        ),
    ] = field(default_factory=list)
    prompt_point: Annotated[
        list[str],
        typer.Option(
            metavar="X,Y[;X,Y…][@IMAGE]",
            help="Outline the object at these points (!X,Y lies beside it), with SAM; repeat for more.",
            rich_help_panel=_MODEL,
        ),
    ] = field(default_factory=list)
    save_overlays: OverlaysOption = False
    batch_size: BatchSizeOption = None
    image_size: ImageSizeOption = None
    device: DeviceOption = ""
    set: SetOption = field(default_factory=list)


@dataclass(frozen=True)
class EmbedOptions:
    """What an embedding is made of, besides images and checkpoint."""

    model: ModelOption = ""
    normalize: NormalizeOption = True
    inline: InlineOption = False
    batch_size: BatchSizeOption = None
    image_size: ImageSizeOption = None
    device: DeviceOption = ""
    set: SetOption = field(default_factory=list)


@dataclass(frozen=True)
class FaceOptions:
    """How faces are looked for, besides images and checkpoint."""

    model: Annotated[
        str,
        typer.Option(
            help="haar-frontal (the default), haar-profile; yunet or ultralytics, by the checkpoint.",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = ""
    confidence: ConfidenceOption = None
    max_faces: Annotated[
        int | None, typer.Option(help="Most faces per image. Default 100.", rich_help_panel=_MODEL)
    ] = None
    save_crops: Annotated[
        bool, typer.Option("--crops/--no-crops", help="Keep a picture of each face.", rich_help_panel=_MODEL)
    ] = True
    save_overlays: OverlaysOption = False
    device: DeviceOption = ""
    set: SetOption = field(default_factory=list)


@dataclass(frozen=True)
class FaceVectorOptions:
    """How a face becomes a vector, besides the checkpoint."""

    embedding_model: Annotated[
        str,
        typer.Option(
            help="timm or sface. Default: what the embedding checkpoint is of.",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = ""
    normalize: NormalizeOption = True
    inline: InlineOption = False


@dataclass(frozen=True)
class SubmitOptions:
    """How a job is queued, and what the command does after submitting it."""

    detach: DetachOption = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Send files and check everything, submit nothing.", rich_help_panel=_RUN
        ),
    ] = False
    output: OutputOption = Output.TABLE
    logs: LogsOption = False
    request_id: RequestIdOption = ""
    name: Annotated[
        str,
        typer.Option("--name", "-n", help="A name for people.", show_default=False, rich_help_panel=_QUEUE),
    ] = ""
    framework: Annotated[
        str,
        typer.Option(
            help="Whose runners take the job. Default ultralytics; timm for embed, faces for faces.",
            show_default=False,
            rich_help_panel=_QUEUE,
        ),
    ] = ""
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority", "-p", help="0 (background) to 10 (urgent). Default 5.", rich_help_panel=_QUEUE
        ),
    ] = None
    after: Annotated[
        list[str],
        typer.Option(
            metavar="JOB",
            help="Start only when this job has succeeded; repeat for more.",
            rich_help_panel=_QUEUE,
        ),
    ] = field(default_factory=list)
    label: Annotated[
        list[str],
        typer.Option(
            "--label",
            "-l",
            metavar="KEY=VALUE",
            help="Label to filter by; repeat for more.",
            rich_help_panel=_QUEUE,
        ),
    ] = field(default_factory=list)
    runner: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="Label that the runner must carry.", rich_help_panel=_QUEUE),
    ] = field(default_factory=list)
    gpus: Annotated[
        int | None, typer.Option(help="GPUs that the job needs for itself.", rich_help_panel=_QUEUE)
    ] = None
    gpu_memory_mib: Annotated[
        int | None, typer.Option(help="Memory that each of them must have.", rich_help_panel=_QUEUE)
    ] = None
    cpus: Annotated[
        float | None, typer.Option(help="CPU cores that the job needs.", rich_help_panel=_QUEUE)
    ] = None
    max_attempts: Annotated[
        int | None,
        typer.Option(help="Give up after so many failed attempts. Default 3.", rich_help_panel=_QUEUE),
    ] = None
    run_timeout: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Longest time one attempt may run: 90s, 5m, 1.5h.",
            show_default=False,
            rich_help_panel=_QUEUE,
        ),
    ] = ""
    queue_timeout: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Longest time to wait for a runner.",
            show_default=False,
            rich_help_panel=_QUEUE,
        ),
    ] = ""


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
