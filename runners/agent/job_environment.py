"""What a job process is told: a job's spec as environment variables, and little of the agent's own."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from runners.process.environment import BATCH_SIZES, KINDS, JobEnvironment
from visionmesh import names
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

_INHERITED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH",
        "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME",
        "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
        "MKL_NUM_THREADS", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME",
    }
)  # fmt: skip
_SAME_NAME = (
    "epochs",
    "batch_size",
    "image_size",
    "learning_rate",
    "patience",
    "checkpoint_period",
    "seed",
    "confidence_threshold",
    "iou_threshold",
    "max_detections",
    "top_k",
    "normalize",
    "save_crops",
)
_SAME_NAME_IF_SET = ("optimizer", "device", "primary_metric", "split", "save_overlays", "inline_values")


class UnknownKind(Exception):
    """The job is of a kind that this version cannot run."""


@dataclass(frozen=True)
class LocalInputs:
    """Where the inputs of an attempt lie on this machine."""

    dataset: Path | None = None
    """Folder of the dataset."""

    checkpoint: Path | None = None
    """File with the weights."""

    images: Path | None = None
    """Lines of {"path", "uri"} in order of image index."""

    first_image_index: int = 0
    """Images below are predicted already."""

    resume: bool = False
    """Whether the checkpoint is the last one of this very job."""

    start_checkpoint: Path | None = None
    """When resuming: the weights to start from if the checkpoint cannot be used."""

    embedding_checkpoint: Path | None = None
    """File with the weights of what turns faces into vectors."""


def job_environment(assignment: runner_pb2.Assignment, inputs: LocalInputs, output: Path) -> JobEnvironment:
    """What the job process is to do. Raises UnknownKind."""
    kind = assignment.job.WhichOneof("spec") or ""
    if kind not in KINDS:
        raise UnknownKind(f"This runner cannot run jobs of kind {kind!r}; it can run {', '.join(KINDS)}.")
    spec = getattr(assignment.job, kind)
    values = _values(spec)
    if isinstance(spec, job_pb2.EmbedFacesSpec):
        values["embedding_model_name"] = spec.embedding_model or None
        spec = spec.detection
        values |= _values(spec)
    if "task" in spec.DESCRIPTOR.fields_by_name and spec.task != vision_pb2.TASK_UNSPECIFIED:
        values["task"] = vision_pb2.Task.Name(spec.task).removeprefix("TASK_").lower()
    if isinstance(spec, job_pb2.TrainSpec):
        least = spec.primary_metric_mode == vision_pb2.METRIC_MODE_MIN
        values["primary_metric_mode"] = "min" if least else "max"
    if isinstance(spec, job_pb2.DetectFacesSpec) and spec.HasField("max_faces"):
        values["max_detections"] = spec.max_faces
    if kind in BATCH_SIZES:
        values.setdefault("batch_size", BATCH_SIZES[kind])
    if isinstance(spec, job_pb2.InferSpec):
        values["prompts"] = tuple(spec.prompts)
    return JobEnvironment(
        kind=kind,
        job_id=names.job_id(assignment.job.name),
        attempt=assignment.attempt,
        dataset_path=inputs.dataset,
        checkpoint_path=inputs.checkpoint,
        image_paths=inputs.images,
        output_path=output,
        model_name=spec.model or None,
        hyperparameters=json_format.MessageToDict(spec.hyperparameters),
        resume=inputs.resume,
        start_checkpoint_path=inputs.start_checkpoint,
        embedding_checkpoint_path=inputs.embedding_checkpoint,
        first_image_index=inputs.first_image_index,
        gpus=len(assignment.gpu_indices),
        **values,
    )


def _values(spec: Message) -> dict[str, Any]:
    """The settings that have the same name on both sides and were given."""
    fields = spec.DESCRIPTOR.fields_by_name
    values = {name: getattr(spec, name) for name in _SAME_NAME if name in fields and spec.HasField(name)}
    texts = {name: getattr(spec, name) for name in _SAME_NAME_IF_SET if name in fields}
    return values | {name: text for name, text in texts.items() if text}


def base_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What zygotes and job processes have of the agent's environment: no credentials, nothing unknown."""
    return {name: value for name, value in environ.items() if name in _INHERITED or name.startswith("LC_")}


def gpu_environment(indices: Sequence[int]) -> dict[str, str]:
    """Shows a job process its GPUs only; without any, what the agent itself sees."""
    if not indices:
        return {}
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, indices)),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order in which the driver, and so the assignment, counts
    }
