"""Compares a job with what a framework says that it can do."""

import difflib
import math
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.struct_pb2 import Value

from visionmesh.errors import Reason, Violation
from visionmesh.published import uses_published_weights
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

Finding = tuple[Reason, Violation]

_MAX_PROMPT_BYTES = 24 * 1024
_SHOWN = 12
_LIKELY = 0.5
_SHOWN_TEXT = 40


def check_against_manifest(job: job_pb2.Job, manifest: runner_pb2.FrameworkManifest) -> list[Finding]:
    """Everything in `job` that the framework refuses; empty if it would take the job."""
    kind = str(job.WhichOneof("spec"))
    if kind not in manifest.kinds:
        able = ", ".join(manifest.kinds)
        text = f"{manifest.framework} does not run {kind} jobs, but {able}. Choose another framework."
        return [(Reason.UNSUPPORTED, Violation(f"job.{kind}", text))]
    spec = getattr(job, kind)
    findings = [*_check_models(kind, spec, manifest)]
    place = kind
    if kind == "embed_faces":
        place, spec = "embed_faces.detection", spec.detection
    task = getattr(spec, "task", vision_pb2.TASK_UNSPECIFIED)
    if task and manifest.tasks and task not in manifest.tasks:
        text = f"{manifest.framework} here does {_tasks(manifest.tasks)}, not {_task(task)}"
        findings.append((Reason.UNSUPPORTED, Violation(f"job.{kind}.task", text)))
    findings += _check_gpus(kind, job, manifest)
    if "hyperparameters" in spec.DESCRIPTOR.fields_by_name:
        for name, value in sorted(spec.hyperparameters.fields.items()):
            field = f"job.{place}.hyperparameters.{name}"
            findings += _check_hyperparameter(kind, field, name, value, manifest)
    return findings


def _check_gpus(kind: str, job: job_pb2.Job, manifest: runner_pb2.FrameworkManifest) -> Iterator[Finding]:
    """More GPUs than the job can use, asked for or named."""
    if not manifest.max_gpus:
        return
    most = manifest.max_gpus if kind == "train" else 1
    named = getattr(getattr(job, kind), "device", "").count(",") + 1
    for field, count in (("job.resources.gpus", job.resources.gpus), (f"job.{kind}.device", named)):
        if count > most:
            text = (
                f"{manifest.framework} uses at most {most} for a job of this kind, and {count} are asked for"
            )
            yield Reason.UNSUPPORTED, Violation(field, f"{text}. The others would lie idle")


def _check_models(kind: str, spec: Any, manifest: runner_pb2.FrameworkManifest) -> Iterator[Finding]:
    """Every model that a spec names, and the one that it lacks."""
    if kind == "embed_faces":
        detectors = _models_for("detect_faces", manifest)
        others = [m.name for m in manifest.models if not m.kinds or "detect_faces" not in m.kinds]
        yield from _check_model(f"job.{kind}.detection.model", spec.detection.model, detectors, manifest)
        yield from _check_model(f"job.{kind}.embedding_model", spec.embedding_model, others, manifest)
        return
    field = f"job.{kind}.model"
    if not spec.model and kind in {"train", "embed"} and not spec.checkpoint:
        such = f" (such as {manifest.models[0].name!r})" if manifest.models else ""
        yield Reason.UNKNOWN_MODEL, Violation(field, f"name a model{such} or a checkpoint to start from")
    yield from _check_model(field, spec.model, _models_for(kind, manifest), manifest)
    yield from _check_published(kind, spec, manifest)
    task = getattr(spec, "task", vision_pb2.TASK_UNSPECIFIED)
    model = next((known for known in manifest.models if known.name == spec.model), None)
    if getattr(spec, "prompts", ()):
        yield from _check_prompts(spec, model, manifest)
    if model is None:
        return
    # A task that nobody here does is told once, for the framework.
    told = bool(manifest.tasks) and task not in manifest.tasks
    if task and not told and model.tasks and task not in model.tasks:
        text = f"{spec.model} does {_tasks(model.tasks)}, not {_task(task)}"
        yield Reason.UNSUPPORTED, Violation(f"job.{kind}.task", text)


def _check_published(kind: str, spec: Any, manifest: runner_pb2.FrameworkManifest) -> Iterator[Finding]:
    """Published weights, if the job needs them: they must exist, and a runner allowed to fetch them."""
    if kind == "train" and spec.pretrained and spec.checkpoint:
        text = "the training starts from the checkpoint. Leave out one of the two"
        yield Reason.INVALID_ARGUMENT, Violation("job.train.pretrained", text)
    if not uses_published_weights(job_pb2.Job(**{kind: spec})):
        return
    model = next((known for known in manifest.models if known.name == spec.model), None)
    if not spec.model and kind in {"validate", "infer"}:
        text = (
            f"name the weights: a checkpoint such as jobs/{{job}}/artifacts/best, or a model{_such(manifest)}"
        )
        yield Reason.CHECKPOINT_NOT_FOUND, Violation(f"job.{kind}.checkpoint", text)
    if model is None:
        return
    field = f"job.{kind}.pretrained" if kind == "train" else f"job.{kind}.checkpoint"
    instead = "Name a checkpoint" + (", or leave out pretrained: random weights" if kind == "train" else "")
    if not model.pretrained:
        text = f"the makers of {spec.model} have published no weights for it. {instead}"
        yield Reason.PRETRAINED_UNAVAILABLE, Violation(field, text)
    elif not manifest.fetches_pretrained:
        text = (
            f"{manifest.framework} runs offline here and does not fetch what the makers of {spec.model} have "
            f"published. {instead}; or start a runner with --pretrained"
        )
        yield Reason.PRETRAINED_UNAVAILABLE, Violation(field, text)


def _such(manifest: runner_pb2.FrameworkManifest) -> str:
    """The first model with published weights, as an example."""
    found = next((model.name for model in manifest.models if model.pretrained), "")
    return f" with published weights such as {found}" if found else " with published weights"


def _check_prompts(
    spec: job_pb2.InferSpec, model: runner_pb2.ModelInfo | None, manifest: runner_pb2.FrameworkManifest
) -> Iterator[Finding]:
    """Whether what takes prompts is asked; a checkpoint alone may be of anything."""
    field = "job.infer.prompts"
    able = [known.name for known in manifest.models if known.promptable]
    if model is not None and not model.promptable:
        other = f" Choose one that does, such as {able[0]!r}." if able else ""
        text = f"{model.name} takes no prompts: it finds what it was trained for.{other}"
        yield Reason.UNSUPPORTED, Violation(field, text)
    elif not able:
        text = f"no model of {manifest.framework} takes prompts. Leave them out, or choose another framework."
        yield Reason.UNSUPPORTED, Violation(field, text)
    size = sum(prompt.ByteSize() for prompt in spec.prompts)
    if size > _MAX_PROMPT_BYTES:  # a job process is told by an environment variable
        text = (
            f"they have {size} bytes; {_MAX_PROMPT_BYTES} fit, some 2000 points. Make several jobs of them."
        )
        yield Reason.INVALID_ARGUMENT, Violation(field, text)


def _models_for(kind: str, manifest: runner_pb2.FrameworkManifest) -> list[str]:
    """Names of the models that can do jobs of a kind."""
    return [model.name for model in manifest.models if not model.kinds or kind in model.kinds]


def _check_model(
    field: str, name: str, known: list[str], manifest: runner_pb2.FrameworkManifest
) -> Iterator[Finding]:
    if name and name not in known:
        kinds = next((model.kinds for model in manifest.models if model.name == name), ())
        other = f" for this: it is for {', '.join(kinds)} jobs" if kinds else ""
        text = f"there is no model {name!r} in {manifest.framework}{other}. {_nearest(name, known)}"
        yield Reason.UNKNOWN_MODEL, Violation(field, text)


def _check_hyperparameter(
    kind: str, field: str, name: str, value: Value, manifest: runner_pb2.FrameworkManifest
) -> Iterator[Finding]:
    known = {rule.name: rule for rule in manifest.hyperparameters if not rule.kinds or kind in rule.kinds}
    if name in known:
        problem = _problem(known[name], value)
        if problem is not None:
            yield Reason.BAD_HYPERPARAMETER, Violation(field, problem)
        return
    others = sorted({other for rule in manifest.hyperparameters if rule.name == name for other in rule.kinds})
    hint = f"It is one of {' and '.join(others)}." if others else _nearest(name, known)
    text = f"there is no hyperparameter {name!r} for {kind}. {hint}"
    yield Reason.UNKNOWN_HYPERPARAMETER, Violation(field, text)


def _problem(rule: runner_pb2.Hyperparameter, value: Value) -> str | None:
    kind = value.WhichOneof("kind")
    if not _finite(value):
        return "must be a finite number, not NaN or infinite"
    match rule.type:
        case runner_pb2.HYPERPARAMETER_TYPE_FLOAT | runner_pb2.HYPERPARAMETER_TYPE_INT:
            return (
                _number_problem(rule, value) if kind == "number_value" else f"must be a number{_got(value)}"
            )
        case runner_pb2.HYPERPARAMETER_TYPE_BOOL:
            return None if kind == "bool_value" else f"must be true or false{_got(value)}"
        case runner_pb2.HYPERPARAMETER_TYPE_STRING if kind != "string_value":
            return f"must be text{_got(value)}"
        case runner_pb2.HYPERPARAMETER_TYPE_STRING if rule.choices and value.string_value not in rule.choices:
            return f"must be one of {', '.join(rule.choices)}, got {value.string_value!r}"
    return None


def _got(value: Value) -> str:
    match value.WhichOneof("kind"):
        case "string_value":
            return f", got {value.string_value[:_SHOWN_TEXT]!r}"
        case "number_value":
            return f", got {value.number_value:g}"
        case "bool_value":
            return f", got {str(value.bool_value).lower()}"
    return ""


def _number_problem(rule: runner_pb2.Hyperparameter, value: Value) -> str | None:
    number = value.number_value
    if rule.type == runner_pb2.HYPERPARAMETER_TYPE_INT and number != int(number):
        return f"must be a whole number, got {number:g}"
    if rule.HasField("min") and number < rule.min:
        return f"must be at least {rule.min:g}, got {number:g}"
    if rule.HasField("max") and number > rule.max:
        return f"must be at most {rule.max:g}, got {number:g}"
    return None


def _finite(value: Value) -> bool:
    """Whether no number in a value, lists and objects included, is NaN or infinite."""
    match value.WhichOneof("kind"):
        case "number_value":
            return math.isfinite(value.number_value)
        case "list_value":
            return all(_finite(item) for item in value.list_value.values)
        case "struct_value":
            return all(_finite(item) for item in value.struct_value.fields.values())
    return True


def _nearest(name: str, known: Iterable[str]) -> str:
    """A guess at what was meant, and what is known: all of it, or what is spelt most like it."""
    folded = {known_name.casefold(): known_name for known_name in sorted(known)}
    if not folded:
        return "It knows none."
    likeness = difflib.SequenceMatcher(b=name.casefold())

    def unlikeness(known_name: str) -> float:
        likeness.set_seq1(known_name)
        return -likeness.ratio()

    near = sorted(folded, key=unlikeness)
    guess = f"Did you mean {folded[near[0]]!r}? " if unlikeness(near[0]) <= -_LIKELY else ""
    shown = near[:_SHOWN] if len(folded) > _SHOWN else folded
    more = f", and {len(folded) - _SHOWN} more" if len(folded) > _SHOWN else ""
    return f"{guess}Known: {', '.join(folded[known_name] for known_name in shown)}{more}."


def _task(task: int) -> str:
    return vision_pb2.Task.Name(task).removeprefix("TASK_").lower()  # type: ignore[arg-type]


def _tasks(tasks: Iterable[int]) -> str:
    return ", ".join(_task(task) for task in tasks)
