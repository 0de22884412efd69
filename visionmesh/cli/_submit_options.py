"""The options of the commands that submit a job."""

from dataclasses import dataclass, field
from typing import Annotated

import typer

from visionmesh.cli._options import Output, OutputOption

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
