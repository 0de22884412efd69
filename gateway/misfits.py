"""Which field of a JSON object does not fit its message, and why, in a sentence."""

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from visionmesh.errors import MeshError, Reason, invalid

UNFIT = (json_format.ParseError, RecursionError, TypeError, AttributeError, ValueError, OverflowError)
"""What proto3 JSON raises for what it cannot read."""

_FRAME = re.compile(r"Failed to parse \S+ field: | at [\w.\[\]]+(?=\.*$)")
_NO_INTEGER = re.compile(r"invalid literal for int\(\) with base 10: (.*)")
_DEEPEST = 20


def misfit(kind: Any, fields: dict[str, Any], error: Exception) -> MeshError:
    """INVALID_ARGUMENT for the field of `fields` that was refused with `error` as a whole."""
    path, why = _find(kind, fields, str(error), _DEEPEST)
    description = _FRAME.sub("", why).splitlines()[0].rstrip(".")
    description = _NO_INTEGER.sub(r"\1 is no integer", description)
    return invalid(
        Reason.INVALID_ARGUMENT, ".".join(path) or "body", f"{description}. See /docs for what it takes."
    )


def _find(kind: Any, fields: dict[str, Any], why: str, depth: int) -> tuple[list[str], str]:
    """The way to the field that does not fit by itself; an empty one if only all together do not."""
    for name, value in fields.items():
        field = field_of(kind, name)
        if field is None:
            return [name], f"There is no such field in {kind.name}"
        error = _refused(kind, name, value)
        if error is None:
            continue
        for place, inner in _parts(field, name, value) if depth else ():
            if _error_of(field.message_type, inner) is not None:
                path, reason = _find(field.message_type, inner, error, depth - 1)
                return [place, *path], reason
        return [name], error
    return [], why


def field_of(kind: Descriptor, name: str) -> FieldDescriptor | None:
    """The field that is called `name` in the contract or in JSON."""
    found: FieldDescriptor | None = kind.fields_by_name.get(name)
    return found or next((field for field in kind.fields if field.json_name == name), None)


def _parts(field: FieldDescriptor, name: str, value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects that are messages in the value of a field."""
    kind = field.message_type
    if kind is None or kind.GetOptions().map_entry or kind.file.name.startswith("google/protobuf/"):
        return
    if isinstance(value, dict):
        yield name, value
    elif isinstance(value, list):
        yield from ((f"{name}[{place}]", each) for place, each in enumerate(value) if isinstance(each, dict))


def _refused(kind: Any, name: str, value: object) -> str | None:
    return _error_of(kind, {name: value})


def _error_of(kind: Any, fields: dict[str, Any]) -> str | None:
    try:
        json_format.ParseDict(fields, GetMessageClass(kind)())
    except UNFIT as error:
        return str(error)
    return None
