"""What a framework says of itself."""

from collections import Counter
from collections.abc import Iterable

import protovalidate
from google.protobuf.json_format import MessageToDict

from runners.framework_kit.jobs import Jobs
from runners.framework_kit.rules import Broken, expect
from runners.process.errors import UserError
from runners.process.hyperparameters import check_hyperparameters
from visionmesh.v1 import job_pb2, runner_pb2, vision_pb2

_MOST_NAME = 200  # as TrainSpec.model allows


def is_light(jobs: Jobs) -> str:
    """F1."""
    heavy, threads = jobs.described["heavy"], jobs.described["threads"]
    expect(not heavy, "F1", f"reading it imports {', '.join(heavy)}; import that in preload and run")
    expect(not threads, "F1", f"reading it leaves threads: {', '.join(threads)}")
    return "imports nothing heavy"


def is_valid(jobs: Jobs) -> str:
    """F2."""
    told, name = jobs.manifest, jobs.described["name"]
    try:
        protovalidate.validate(told)
    except protovalidate.ValidationError as error:
        raise Broken("F2", f"it is not valid: {error}") from error
    expect(told.framework == name, "F2", f"it is of {told.framework!r}, the class is {name!r}")
    expect(told.version, "F2", "it does not say its version")
    expect(not jobs.described["changes"], "F2", "a second look gives another one")
    known = {field.name for field in job_pb2.Job.DESCRIPTOR.oneofs_by_name["spec"].fields}
    unknown = [kind for kind in told.kinds if kind not in known]
    expect(told.kinds and not unknown, "F2", f"its kinds are {list(told.kinds)}, of {sorted(known)}")
    _once("F2", "kind", told.kinds)
    _known_tasks("F2", "the manifest", told.tasks)
    return f"{told.framework} {told.version}: {', '.join(told.kinds)}"


def models_are_sound(jobs: Jobs) -> str:
    """F3."""
    told = jobs.manifest
    _once("F3", "model", [model.name for model in told.models])
    for model in told.models:
        expect(0 < len(model.name) <= _MOST_NAME, "F3", f"a model is called {model.name!r}")
        _known_tasks("F3", model.name, model.tasks)
        more = [vision_pb2.Task.Name(task) for task in model.tasks if task not in told.tasks]
        expect(not more, "F3", f"{model.name} does {', '.join(more)}, which the manifest does not")
        kinds = [kind for kind in model.kinds if kind not in told.kinds]
        expect(not kinds, "F3", f"{model.name} is for {', '.join(kinds)}, which the manifest is not")
        expect(model.parameters_millions >= 0, "F3", f"{model.name} has a negative size")
    expect(told.models or "train" not in told.kinds, "F3", "it trains, but names no model")
    return f"{len(told.models)} models"


def hyperparameters_are_sound(jobs: Jobs) -> str:
    """F4."""
    told = jobs.manifest
    _once("F4", "hyperparameter", [item.name for item in told.hyperparameters])
    for item in told.hyperparameters:
        expect(item.name and item.description, "F4", f"{item.name!r} has no name or no description")
        expect(item.type, "F4", f"{item.name} has no type")
        kinds = [kind for kind in item.kinds if kind not in told.kinds]
        expect(not kinds, "F4", f"{item.name} is for {', '.join(kinds)}, which the manifest is not")
        ordered = not (item.HasField("min") and item.HasField("max")) or item.min <= item.max
        expect(ordered, "F4", f"{item.name} has min {item.min:g} above max {item.max:g}")
        _check_default(told, item)
    return f"{len(told.hyperparameters)} hyperparameters"


def _check_default(told: runner_pb2.FrameworkManifest, item: runner_pb2.Hyperparameter) -> None:
    """A default of null says that the framework chooses."""
    default = MessageToDict(item.default) if item.HasField("default") else None
    if default is None:
        return
    kind = next(iter(item.kinds), told.kinds[0] if told.kinds else "")
    try:
        check_hyperparameters(told, kind, {item.name: default})
    except UserError as error:
        raise Broken("F4", f"the default of {item.name} is not one that it takes: {error}") from error


def _once(rule: str, what: str, names: Iterable[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    expect(not twice, rule, f"the same {what} is there more than once: {', '.join(twice[:5])}")


def _known_tasks(rule: str, who: str, tasks: Iterable[int]) -> None:
    known = set(vision_pb2.Task.values()) - {vision_pb2.TASK_UNSPECIFIED}
    expect(set(tasks) <= known, rule, f"{who} names tasks that there are not: {sorted(set(tasks) - known)}")
