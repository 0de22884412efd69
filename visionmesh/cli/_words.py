"""Words and colours for states, stages, times and numbers."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

STATE_STYLES = {
    vision_pb2.JOB_STATE_PENDING: "yellow",
    vision_pb2.JOB_STATE_QUEUED: "yellow",
    vision_pb2.JOB_STATE_RUNNING: "cyan",
    vision_pb2.JOB_STATE_SUCCEEDED: "green",
    vision_pb2.JOB_STATE_FAILED: "bold red",
    vision_pb2.JOB_STATE_CANCELLED: "magenta",
}
RUNNER_STATE_STYLES = {
    runner_pb2.RUNNER_STATE_ONLINE: "green",
    runner_pb2.RUNNER_STATE_DRAINING: "yellow",
    runner_pb2.RUNNER_STATE_OFFLINE: "red",
}
METRIC_ORDER = (
    "train_loss",
    "val_loss",
    "mAP50",
    "mAP50-95",
    "precision",
    "recall",
    "accuracy_top1",
    "accuracy_top5",
)
"""Canonical metrics, in the order in which people want to see them."""


def state_name(state: "vision_pb2.JobState.ValueType") -> str:
    """RUNNING for JOB_STATE_RUNNING; a newer server's state by number."""
    try:
        return vision_pb2.JobState.Name(state).removeprefix("JOB_STATE_")
    except ValueError:
        return f"STATE {state}"


def styled_state(state: "vision_pb2.JobState.ValueType") -> str:
    """The state's name in its colour, as console markup."""
    style = STATE_STYLES.get(state, "default")
    return f"[{style}]{state_name(state)}[/]"


def styled_runner_state(state: "runner_pb2.RunnerState.ValueType") -> str:
    """The runner's state in its colour, as console markup."""
    try:
        name = runner_pb2.RunnerState.Name(state).removeprefix("RUNNER_STATE_")
    except ValueError:
        name = f"STATE {state}"
    return f"[{RUNNER_STATE_STYLES.get(state, 'default')}]{name}[/]"


def stage_name(stage: "vision_pb2.Stage.ValueType") -> str:
    """STAGE_LOADING_MODEL as "loading model"."""
    try:
        return vision_pb2.Stage.Name(stage).removeprefix("STAGE_").replace("_", " ").lower()
    except ValueError:
        return f"stage {stage}"


def cause_name(cause: "vision_pb2.AttemptCause.ValueType") -> str:
    """PROCESS_DIED for ATTEMPT_CAUSE_PROCESS_DIED."""
    try:
        return vision_pb2.AttemptCause.Name(cause).removeprefix("ATTEMPT_CAUSE_")
    except ValueError:
        return f"CAUSE {cause}"


def kind(job: job_pb2.Job) -> str:
    """The job's kind: the name of its spec."""
    return job.WhichOneof("spec") or "?"


def ordered(metrics: Mapping[str, float]) -> list[str]:
    """Names of metrics: the canonical ones first, the framework's own after them."""
    known = [name for name in METRIC_ORDER if name in metrics]
    return known + sorted(name for name in metrics if name not in METRIC_ORDER)


def number(value: float) -> str:
    """A metric: four significant digits at least three decimals; NaN and infinity as they are."""
    if not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def age(then: Timestamp, now: datetime) -> str:
    """How long ago, in the two words that matter: "12s", "5m", "3h", "2d"."""
    if not then.seconds:
        return ""
    return span((now - then.ToDatetime(tzinfo=UTC)).total_seconds())


def span(seconds: float) -> str:
    """A time as "12s", "5m", "3h" or "2d"."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def size(size_bytes: int) -> str:
    """A size as "5.2 MB"."""
    value, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
