"""The environment variables that tell a job process what to do.

The agent writes them with `to_environ`, the job process reads them with `read`, and people set
the few they need by hand: `EPOCHS=3 DATASET_PATH=shapes python -m runners.ultralytics.train`.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from runners.process.errors import UserError
from visionmesh.v1 import job_pb2

KINDS = ("train", "validate", "infer", "embed", "detect_faces", "embed_faces")
"""Kinds of jobs."""

BATCH_SIZES = {"infer": 8, "embed": 8, "detect_faces": 1, "embed_faces": 1}
"""Images per step where that is not said, for kinds that do not train."""

_TASKS = {"detection": "detect", "object_detection": "detect"}
_KNOWN_TASKS = ("detect", "segment", "classify", "pose", "obb")


@dataclass(frozen=True)
class JobEnvironment:
    """What a job process is to do. None means: as the framework does by default."""

    kind: str = "train"
    """train, validate, infer, embed, detect_faces or embed_faces (KIND)."""

    job_id: str = "local"
    """The {job} of jobs/{job} (JOB_ID or INFERENCE_JOB_ID); "local" by hand."""

    attempt: int = 1
    """Number of the attempt, from 1 (ATTEMPT)."""

    dataset_path: Path | None = None
    """Folder of a dataset in YOLO layout (DATASET_PATH)."""

    checkpoint_path: Path | None = None
    """Weights to start from or to use (CHECKPOINT_PATH)."""

    image_paths: Path | None = None
    """A folder, one image, or a .jsonl file (IMAGE_PATHS).

    The file has one {"path": local path, "uri": name for people} per line, in order of index. Where one
    has "error": {"code": google.rpc.Code, "reason", "message"} too, nothing lies at its path, and that
    error is its prediction.
    """

    output_path: Path = Path("output/train")
    """Where files are left (OUTPUT_PATH); ./output/{kind} by default."""

    model_name: str | None = None
    """A model of the manifest (MODEL_NAME); the framework's default where there is no checkpoint either."""

    task: str | None = None
    """detect, segment, classify, pose or obb (TASK)."""

    epochs: int = 100
    """Passes over the training split, at least 1 (EPOCHS)."""

    batch_size: int = 16
    """Images per step, at least 1 (BATCH_SIZE); by default 8 for infer and embed, 1 for faces."""

    image_size: int | None = None
    """Side of the square network input in pixels, 32 to 8192 (IMAGE_SIZE)."""

    learning_rate: float | None = None
    """Initial learning rate, above 0, at most 10 (LEARNING_RATE)."""

    optimizer: str | None = None
    """By the framework's name (OPTIMIZER)."""

    patience: int | None = None
    """Epochs without improvement after which training stops; 0 never does (PATIENCE)."""

    checkpoint_period: int = 1
    """Epochs from one published checkpoint to the next, at least 1 (CHECKPOINT_PERIOD)."""

    seed: int = 0
    """Seed of every random number generator, 0 to 2^31 - 1 (SEED)."""

    device: str | None = None
    """cpu, mps, cuda, cuda:0 or cuda:0,1 (DEVICE); the best there is by default."""

    gpus: int = 0
    """GPUs that are the job's own, of those it sees the first; 0: none was asked for (GPUS)."""

    cpu_threads: int | None = None
    """Threads to compute with on a CPU, at least 1 (CPU_THREADS); all cores by default."""

    primary_metric: str | None = None
    """Canonical metric that says which epoch is best (PRIMARY_METRIC)."""

    primary_metric_mode: str = "max"
    """max or min (PRIMARY_METRIC_MODE)."""

    split: str = "val"
    """Split to measure on (SPLIT)."""

    confidence_threshold: float = 0.25
    """Lowest confidence that counts, in [0, 1] (CONFIDENCE_THRESHOLD)."""

    iou_threshold: float = 0.45
    """Overlap from which boxes match or are duplicates, in [0, 1] (IOU_THRESHOLD)."""

    max_detections: int = 100
    """Most detections or faces per image, at least 1 (MAX_DETECTIONS)."""

    top_k: int = 5
    """Most classes per image for classification, at least 1 (TOP_K)."""

    normalize: bool = True
    """Scale each vector of an embedding to length 1 (NORMALIZE)."""

    inline_values: bool = False
    """Tell the numbers of each vector with its prediction too, not only in a file (INLINE_VALUES)."""

    embedding_model_name: str | None = None
    """What turns a face into a vector (EMBEDDING_MODEL); by default what its checkpoint is of."""

    embedding_checkpoint_path: Path | None = None
    """Weights of that (EMBEDDING_CHECKPOINT_PATH)."""

    save_crops: bool = True
    """Keep a picture of each face (SAVE_CROPS)."""

    prompts: tuple[job_pb2.Prompt, ...] = ()
    """What a promptable model is to outline (PROMPTS, a JSON list); everything that it finds by default."""

    save_overlays: bool = False
    """Draw predictions into copies of the images (SAVE_OVERLAYS)."""

    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the framework by its own names (HYPERPARAMETERS, a JSON object)."""

    resume: bool = False
    """checkpoint_path is the last checkpoint of this very job: go on at the next epoch (RESUME)."""

    start_checkpoint_path: Path | None = None
    """When resuming, weights to start from if checkpoint_path cannot be used (START_CHECKPOINT_PATH)."""

    first_image_index: int = 0
    """Images below this index are done already (FIRST_IMAGE_INDEX)."""

    events_fd: int | None = None
    """File descriptor for events (EVENTS_FD); JSON lines on standard output without it."""

    commands_fd: int | None = None
    """File descriptor of commands (COMMANDS_FD); start at once and obey Ctrl-C without it."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "JobEnvironment":
        """Read `environ`; a variable that is absent or empty has its default.

        Raises UserError naming the variable, its value and the fix.
        """
        values: dict[str, Any] = {}
        for variable in _VARIABLES:
            name = next((name for name in variable.names if environ.get(name, "").strip()), None)
            if name is None:
                continue
            text = environ[name].strip()
            try:
                values[variable.field] = variable.parse(text)
            except ValueError as error:
                raise UserError(f"{name} is {text!r}; it must be {error}. Correct or unset it.") from None
        kind = values.get("kind", "train")
        values.setdefault("output_path", Path("output") / kind)
        if kind in BATCH_SIZES:
            values.setdefault("batch_size", BATCH_SIZES[kind])
        return cls(**values)

    def to_environ(self) -> dict[str, str]:
        """The variables that `read` turns back into the same; what is None is left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            variable.names[0]: _format(values[variable.field])
            for variable in _VARIABLES
            if values[variable.field] is not None
        }


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, tuple):
        return json.dumps([MessageToDict(item, preserving_proto_field_name=True) for item in value])
    return str(value)


def _text(text: str) -> str:
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text.lower()

    return parse


def _task(text: str) -> str:
    return _one_of(*_KNOWN_TASKS)(_TASKS.get(text.lower(), text))


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(wanted) from None
        if value < low or (high is not None and value > high):
            raise ValueError(wanted)
        return value

    return parse


def _number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    wanted = f"a number above {low:g} and at most {high:g}" if above else f"a number from {low:g} to {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(wanted) from None
        if not math.isfinite(value) or value > high or value < low or (above and value == low):
            raise ValueError(wanted)
        return value

    return parse


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1", "yes")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('a JSON object such as {"mosaic": 0.5}')
    return value


def _prompts(text: str) -> tuple[job_pb2.Prompt, ...]:
    try:
        return tuple(ParseDict(entry, job_pb2.Prompt()) for entry in json.loads(text))
    except (ValueError, TypeError, ParseError) as error:
        wanted = '[{"box": {"x_min": 10, "y_min": 20, "x_max": 90, "y_max": 80}}]'
        raise ValueError(f"a JSON list of prompts such as {wanted} ({error})") from None


class _Variable(NamedTuple):
    field: str
    names: tuple[str, ...]
    parse: Callable[[str], Any]


_VARIABLES = (
    _Variable("kind", ("KIND",), _one_of(*KINDS)),
    _Variable("job_id", ("JOB_ID", "INFERENCE_JOB_ID"), _text),
    _Variable("attempt", ("ATTEMPT",), _whole(1)),
    _Variable("dataset_path", ("DATASET_PATH",), Path),
    _Variable("checkpoint_path", ("CHECKPOINT_PATH",), Path),
    _Variable("image_paths", ("IMAGE_PATHS",), Path),
    _Variable("output_path", ("OUTPUT_PATH",), Path),
    _Variable("model_name", ("MODEL_NAME",), _text),
    _Variable("task", ("TASK",), _task),
    _Variable("epochs", ("EPOCHS",), _whole(1, 100_000)),
    _Variable("batch_size", ("BATCH_SIZE",), _whole(1, 65_536)),
    _Variable("image_size", ("IMAGE_SIZE",), _whole(32, 8192)),
    _Variable("learning_rate", ("LEARNING_RATE",), _number(0, 10, above=True)),
    _Variable("optimizer", ("OPTIMIZER",), _text),
    _Variable("patience", ("PATIENCE",), _whole(0)),
    _Variable("checkpoint_period", ("CHECKPOINT_PERIOD",), _whole(1)),
    _Variable("seed", ("SEED",), _whole(0, 2**31 - 1)),
    _Variable("device", ("DEVICE",), _text),
    _Variable("gpus", ("GPUS",), _whole(0, 64)),
    _Variable("cpu_threads", ("CPU_THREADS",), _whole(1, 1024)),
    _Variable("primary_metric", ("PRIMARY_METRIC",), _text),
    _Variable("primary_metric_mode", ("PRIMARY_METRIC_MODE",), _one_of("max", "min")),
    _Variable("split", ("SPLIT",), _text),
    _Variable("confidence_threshold", ("CONFIDENCE_THRESHOLD",), _number(0, 1)),
    _Variable("iou_threshold", ("IOU_THRESHOLD",), _number(0, 1)),
    _Variable("max_detections", ("MAX_DETECTIONS",), _whole(1, 10_000)),
    _Variable("top_k", ("TOP_K",), _whole(1, 1000)),
    _Variable("normalize", ("NORMALIZE",), _switch),
    _Variable("inline_values", ("INLINE_VALUES",), _switch),
    _Variable("embedding_model_name", ("EMBEDDING_MODEL",), _text),
    _Variable("embedding_checkpoint_path", ("EMBEDDING_CHECKPOINT_PATH",), Path),
    _Variable("save_crops", ("SAVE_CROPS",), _switch),
    _Variable("prompts", ("PROMPTS",), _prompts),
    _Variable("save_overlays", ("SAVE_OVERLAYS",), _switch),
    _Variable("hyperparameters", ("HYPERPARAMETERS",), _object),
    _Variable("resume", ("RESUME",), _switch),
    _Variable("start_checkpoint_path", ("START_CHECKPOINT_PATH",), Path),
    _Variable("first_image_index", ("FIRST_IMAGE_INDEX",), _whole(0)),
    _Variable("events_fd", ("EVENTS_FD",), _whole(0)),
    _Variable("commands_fd", ("COMMANDS_FD",), _whole(0)),
)
