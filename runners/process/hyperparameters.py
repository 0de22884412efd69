"""Checks a job's hyperparameters against its framework's manifest.

The scheduler does the same when the job is created; a job made by hand, or one accepted before
any runner of its framework was known, is checked here, before anything is loaded.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from runners.process.errors import UserError
from visionmesh.v1 import runner_pb2

_WORDS = {
    runner_pb2.HYPERPARAMETER_TYPE_FLOAT: "a number",
    runner_pb2.HYPERPARAMETER_TYPE_INT: "a whole number",
    runner_pb2.HYPERPARAMETER_TYPE_BOOL: "true or false",
    runner_pb2.HYPERPARAMETER_TYPE_STRING: "a text",
}


def check_hyperparameters(
    manifest: runner_pb2.FrameworkManifest, kind: str, given: Mapping[str, Any]
) -> None:
    """Raises UserError that names the first hyperparameter that is unknown, wrong or out of range."""
    known = {item.name: item for item in manifest.hyperparameters if not item.kinds or kind in item.kinds}
    for name, value in given.items():
        if name not in known:
            message = _unknown(manifest.framework, kind, name, list(known))
            raise UserError(message, reason="UNKNOWN_HYPERPARAMETER")
        if (wrong := _wrong(known[name], value)) is not None:
            raise UserError(f"Hyperparameter {name} is {value!r}; {wrong}.", reason="BAD_HYPERPARAMETER")


def with_types(manifest: runner_pb2.FrameworkManifest, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, checked before, with whole numbers as int: JSON and Struct know only one kind of number."""
    types = {item.name: item.type for item in manifest.hyperparameters}
    return {
        name: int(value) if types[name] == runner_pb2.HYPERPARAMETER_TYPE_INT else value
        for name, value in given.items()
    }


def _unknown(framework: str, kind: str, name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return (
        f"{framework} knows no hyperparameter {name!r} for {kind}.{hint} "
        f"It knows: {', '.join(sorted(known)) or 'none'}."
    )


def _wrong(item: runner_pb2.Hyperparameter, value: Any) -> str | None:
    """What is wrong with `value`, in words; None if nothing is."""
    if not _fits_type(item.type, value):
        return f"it must be {_WORDS[item.type]}, such as {MessageToDict(item.default)!r}"
    if item.choices and value not in item.choices:
        return "it must be one of " + ", ".join(item.choices)
    if item.HasField("min") and value < item.min:
        return f"it must be at least {item.min:g}"
    if item.HasField("max") and value > item.max:
        return f"it must be at most {item.max:g}"
    return None


def _fits_type(kind: "runner_pb2.HyperparameterType.ValueType", value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind == runner_pb2.HYPERPARAMETER_TYPE_FLOAT:
        return number
    if kind == runner_pb2.HYPERPARAMETER_TYPE_INT:
        return number and float(value).is_integer()
    if kind == runner_pb2.HYPERPARAMETER_TYPE_BOOL:
        return isinstance(value, bool)
    if kind == runner_pb2.HYPERPARAMETER_TYPE_STRING:
        return isinstance(value, str)
    return True
