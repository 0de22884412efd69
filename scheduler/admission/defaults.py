"""The defaults that job.proto documents, filled in when a job is accepted, so that users see them."""

from google.protobuf.message import Message

from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

FRAMEWORK = "ultralytics"
FRAMEWORKS = {"embed": "timm", "detect_faces": "faces", "embed_faces": "faces"}
"""For kinds of jobs that FRAMEWORK is not the default of."""

PRIORITY = 5
MAX_ATTEMPTS = 3
INITIAL_BACKOFF_SECONDS = 5
MAX_BACKOFF_SECONDS = 300
BACKOFF_MULTIPLIER = 2.0

DETECTION_METRIC = "mAP50-95"
CLASSIFICATION_METRIC = "accuracy_top1"

# Per kind: fields that are explicitly absent or empty get these values.
SPEC_DEFAULTS: dict[str, dict[str, object]] = {
    "train": {
        "epochs": 100,
        "batch_size": 16,
        "checkpoint_period": 1,
        "seed": 0,
        "primary_metric_mode": vision_pb2.METRIC_MODE_MAX,
    },
    "validate": {
        "split": "val",
        "confidence_threshold": 0.25,
        "iou_threshold": 0.45,
        "max_detections": 100,
        "batch_size": 16,
    },
    "infer": {
        "confidence_threshold": 0.25,
        "iou_threshold": 0.45,
        "max_detections": 100,
        "top_k": 5,
        "batch_size": 8,
    },
    "embed": {"normalize": True, "batch_size": 8},
    "detect_faces": {"confidence_threshold": 0.25, "max_faces": 100, "save_crops": True},
    "embed_faces": {"normalize": True},
}


def with_defaults(job: job_pb2.Job, manifest: runner_pb2.FrameworkManifest | None = None) -> job_pb2.Job:
    """A copy of `job` in which nothing is left to be guessed but the framework's own defaults.

    The task is what the model is made for by the manifest. Without one, or with a checkpoint alone where
    the framework knows several tasks, it is left to the runner, which sees what the checkpoint is made for.
    """
    filled = job_pb2.Job()
    filled.CopyFrom(job)
    filled.framework = framework_of(job)
    if not job.HasField("priority"):
        filled.priority = PRIORITY
    _fill_retry_policy(filled.retry_policy)
    kind = job.WhichOneof("spec")
    if kind is not None:
        spec = getattr(filled, kind)
        spec.SetInParent()
        _fill(spec, SPEC_DEFAULTS[kind])
    if kind in {"train", "validate", "infer"}:
        _fill(spec, {"task": _task(spec.model, manifest)})
    if kind == "train":
        _fill(filled.train, {"primary_metric": _primary_metric(filled.train.task)})
    if kind == "embed_faces":
        _fill(filled.embed_faces.detection, SPEC_DEFAULTS["detect_faces"])
    return filled


def framework_of(job: job_pb2.Job) -> str:
    """The framework that `job` names, or the default of its kind."""
    return job.framework or FRAMEWORKS.get(str(job.WhichOneof("spec")), FRAMEWORK)


def _task(model: str, manifest: runner_pb2.FrameworkManifest | None) -> int:
    if manifest is None:
        return vision_pb2.TASK_UNSPECIFIED
    made_for = next((known.tasks for known in manifest.models if known.name == model), ())
    if made_for:
        return made_for[0]
    return manifest.tasks[0] if len(manifest.tasks) == 1 else vision_pb2.TASK_UNSPECIFIED


def _primary_metric(task: int) -> str:
    if task == vision_pb2.TASK_UNSPECIFIED:
        return ""  # the framework knows what it trains for
    return CLASSIFICATION_METRIC if task == vision_pb2.TASK_CLASSIFY else DETECTION_METRIC


def _fill_retry_policy(policy: job_pb2.RetryPolicy) -> None:
    if not policy.HasField("max_attempts"):
        policy.max_attempts = MAX_ATTEMPTS
    if not policy.HasField("initial_backoff"):
        policy.initial_backoff.FromSeconds(INITIAL_BACKOFF_SECONDS)
    if not policy.HasField("max_backoff"):
        policy.max_backoff.FromSeconds(MAX_BACKOFF_SECONDS)
    if not policy.HasField("multiplier"):
        policy.multiplier = BACKOFF_MULTIPLIER


def _fill(message: Message, defaults: dict[str, object]) -> None:
    for name, value in defaults.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        absent = not message.HasField(name) if field.has_presence else not getattr(message, name)
        if absent:
            setattr(message, name, value)
