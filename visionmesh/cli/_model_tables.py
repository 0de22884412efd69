"""Tables about models and hyperparameters, for people."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.markup import escape
from rich.table import Table

from visionmesh.cli._tables import plain_table
from visionmesh.v1 import runner_pb2, vision_pb2

_TYPES = {
    runner_pb2.HYPERPARAMETER_TYPE_FLOAT: "number",
    runner_pb2.HYPERPARAMETER_TYPE_INT: "whole",
    runner_pb2.HYPERPARAMETER_TYPE_BOOL: "true, false",
    runner_pb2.HYPERPARAMETER_TYPE_STRING: "text",
}


def models_table(manifests: Iterable[runner_pb2.FrameworkManifest], most: int) -> Table:
    """One line per model, `most` of them at most; parameters in millions."""
    table = plain_table(
        "MODEL", "FRAMEWORK", "TASKS", "MILLIONS", "WEIGHTS", "DESCRIPTION", right=("MILLIONS",)
    )
    for manifest in manifests:
        for model in manifest.models[: max(0, most - table.row_count)]:
            tasks = (vision_pb2.Task.Name(task).removeprefix("TASK_").lower() for task in model.tasks)
            millions = f"{model.parameters_millions:g}" if model.parameters_millions else ""
            table.add_row(
                model.name,
                manifest.framework,
                ", ".join(tasks),
                millions,
                "published" if model.pretrained else "",
                escape(model.description),
            )
    return table


def settings_table(manifests: Iterable[runner_pb2.FrameworkManifest]) -> Table:
    """One line per hyperparameter."""
    table = plain_table("NAME", "FRAMEWORK", "FOR", "TAKES", "DEFAULT", "DESCRIPTION")
    for manifest in manifests:
        for item in manifest.hyperparameters:
            table.add_row(
                item.name,
                manifest.framework,
                ", ".join(item.kinds or manifest.kinds),
                escape(_takes(item)),
                escape(_shown(MessageToDict(item.default))),
                escape(item.description),
            )
    return table


def _takes(item: runner_pb2.Hyperparameter) -> str:
    if item.choices:
        return ", ".join(item.choices)
    low, high = item.HasField("min"), item.HasField("max")
    kind = _TYPES.get(item.type, "anything")
    if low and high:
        return f"{kind}, {item.min:g} to {item.max:g}"
    if low or high:
        return f"{kind}, at least {item.min:g}" if low else f"{kind}, at most {item.max:g}"
    return kind


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default or "")
