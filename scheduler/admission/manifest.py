"""Compares a job with what a framework says that it can do."""

import difflib
import math
from collections.abc import Iterable, Iterator

from google.protobuf.struct_pb2 import Value

from visionmesh.errors import Reason, Violation
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

Finding = tuple[Reason, Violation]

_SHOWN = 12


def check_against_manifest(job: job_pb2.Job, manifest: runner_pb2.FrameworkManifest) -> list[Finding]:
    """Everything in `job` that the framework refuses; empty if it would take the job."""
    kind = str(job.WhichOneof("spec"))
    if kind not in manifest.kinds:
        able = ", ".join(manifest.kinds)
        text = f"{manifest.framework} does not run {kind} jobs, but {able}. Choose another framework."
        return [(Reason.UNSUPPORTED, Violation(f"job.{kind}", text))]
    spec = getattr(job, kind)
    findings = list(_check_model(kind, spec, manifest))
    task = getattr(spec, "task", vision_pb2.TASK_UNSPECIFIED)
    if task and task not in manifest.tasks:
        text = f"{manifest.framework} here does {_tasks(manifest.tasks)}, not {_task(task)}"
        findings.append((Reason.UNSUPPORTED, Violation(f"job.{kind}.task", text)))
    if "hyperparameters" in spec.DESCRIPTOR.fields_by_name:
        known = {h.name: h for h in manifest.hyperparameters if not h.kinds or kind in h.kinds}
        for name, value in spec.hyperparameters.fields.items():
            findings += _check_hyperparameter(f"job.{kind}.hyperparameters.{name}", name, value, known)
    return findings


def _check_model(
    kind: str, spec: job_pb2.TrainSpec, manifest: runner_pb2.FrameworkManifest
) -> Iterator[Finding]:
    field = f"job.{kind}.model"
    if "model" not in spec.DESCRIPTOR.fields_by_name:
        return
    if not spec.model:
        if kind == "train" and not spec.checkpoint:
            such = f" (such as {manifest.models[0].name!r})" if manifest.models else ""
            text = f"name a model{such} or a checkpoint to start from"
            yield Reason.UNKNOWN_MODEL, Violation(field, text)
        return
    by_name = {model.name: model for model in manifest.models}
    model = by_name.get(spec.model)
    if model is None:
        text = f"there is no model {spec.model!r} in {manifest.framework}. {_nearest(spec.model, by_name)}"
        yield Reason.UNKNOWN_MODEL, Violation(field, text)
        return
    task = getattr(spec, "task", vision_pb2.TASK_UNSPECIFIED)
    if task and model.tasks and task not in model.tasks:
        text = f"{spec.model} does {_tasks(model.tasks)}, not {_task(task)}"
        yield Reason.UNSUPPORTED, Violation(f"job.{kind}.task", text)


def _check_hyperparameter(
    field: str, name: str, value: Value, known: dict[str, runner_pb2.Hyperparameter]
) -> list[Finding]:
    if name not in known:
        text = f"there is no hyperparameter {name!r}. {_nearest(name, known)}"
        return [(Reason.UNKNOWN_HYPERPARAMETER, Violation(field, text))]
    problem = _problem(known[name], value)
    return [(Reason.BAD_HYPERPARAMETER, Violation(field, problem))] if problem else []


def _problem(rule: runner_pb2.Hyperparameter, value: Value) -> str | None:
    kind = value.WhichOneof("kind")
    match rule.type:
        case runner_pb2.HYPERPARAMETER_TYPE_FLOAT | runner_pb2.HYPERPARAMETER_TYPE_INT:
            return _number_problem(rule, value) if kind == "number_value" else "must be a number"
        case runner_pb2.HYPERPARAMETER_TYPE_BOOL:
            return None if kind == "bool_value" else "must be true or false"
        case runner_pb2.HYPERPARAMETER_TYPE_STRING if kind != "string_value":
            return "must be text"
        case runner_pb2.HYPERPARAMETER_TYPE_STRING if rule.choices and value.string_value not in rule.choices:
            return f"must be one of {', '.join(rule.choices)}, got {value.string_value!r}"
    return None


def _number_problem(rule: runner_pb2.Hyperparameter, value: Value) -> str | None:
    number = value.number_value
    if not math.isfinite(number):
        return f"must be a finite number, got {number}"
    if rule.type == runner_pb2.HYPERPARAMETER_TYPE_INT and number != int(number):
        return f"must be a whole number, got {number:g}"
    if rule.HasField("min") and number < rule.min:
        return f"must be at least {rule.min:g}, got {number:g}"
    if rule.HasField("max") and number > rule.max:
        return f"must be at most {rule.max:g}, got {number:g}"
    return None


def _nearest(name: str, known: Iterable[str]) -> str:
    """A guess at what was meant, and the first of what is known."""
    everything = sorted(known)
    near = difflib.get_close_matches(name, everything, n=1, cutoff=0.5)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    more = f", and {len(everything) - _SHOWN} more" if len(everything) > _SHOWN else ""
    return f"{guess}Known: {', '.join(everything[:_SHOWN])}{more}."


def _task(task: int) -> str:
    return vision_pb2.Task.Name(task).removeprefix("TASK_").lower()  # type: ignore[arg-type]


def _tasks(tasks: Iterable[int]) -> str:
    return ", ".join(_task(task) for task in tasks)
