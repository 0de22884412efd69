"""Requests from paths, query parameters and JSON bodies, by the rules of google.api.http.

Values are what proto3 JSON makes of them, in queries too: enums by name or number, timestamps and durations
as text, bytes as base64. What is not in the contract is refused by name.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gateway.misfits import UNFIT, field_of, misfit
from gateway.routes import Route
from visionmesh.errors import Reason, invalid

Pairs = Iterable[tuple[str, str]]

_TEXTUAL = {
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "StringValue", "BytesValue", "BoolValue", "DoubleValue"),
        *("FloatValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
    )
}
"""Messages that proto3 JSON writes as one value."""


def request_of(route: Route, path: Mapping[str, str], query: Pairs, body: bytes) -> Message:
    """The request that a call of `route` makes. Raises INVALID_ARGUMENT naming the field."""
    request: Message = GetMessageClass(route.method.input_type)()
    if route.body:
        _merge(request, _body_fields(route.body, body))
    elif body.strip():
        _refuse("", f"{route.method.name} takes no body. Give its fields as query parameters.")
    taken = {*path, route.body} - {""}
    _merge(request, query_fields(route.method.input_type, query, taken))
    for field, text in path.items():
        _merge(request, _nested(field.split("."), text))
    return request


def header_of(kind: Descriptor, given: Pairs) -> Message:
    """The header of an upload, from query parameters or parts of a form. Raises INVALID_ARGUMENT."""
    header: Message = GetMessageClass(kind)()
    _merge(header, query_fields(kind, given))
    return header


def _body_fields(field: str, body: bytes) -> dict[str, Any]:
    value = parsed(body) if body.strip() else {}
    if field != "*":
        return {field: value}
    if not isinstance(value, dict):
        _refuse("", f"The body is a JSON {_kind(value)}. Send an object with the fields of the request.")
    return value


def parsed(body: bytes) -> Any:
    """The JSON value that `body` is. Raises INVALID_ARGUMENT."""
    try:
        return json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        _refuse("", f"The body is no JSON: {why}. Send UTF-8 text as RFC 8259 has it.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object")
    return fields


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f'{text} is no number of JSON; write it as text, "{text}"')


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def query_fields(kind: Descriptor, query: Pairs, taken: Iterable[str] = ()) -> dict[str, Any]:
    """Query parameters as the JSON object that says the same.

    `taken` are fields that path or body give; `*` is all of them. Raises INVALID_ARGUMENT.
    """
    fields: dict[str, Any] = {}
    for name, text in query:
        path = _resolve(kind, name)
        names = [field.name for field in path]
        if "*" in taken or any(".".join(names[:depth]) in taken for depth in range(1, len(names) + 1)):
            _refuse(name, "Path or body give this field. Leave out the query parameter.")
        _insert(fields, path, _value(path[-1], name, text), name)
    return fields


def _resolve(kind: Descriptor, name: str) -> list[FieldDescriptor]:
    """The fields on the way to `name`: `a.b` by the contract's names, or by those of JSON."""
    path: list[FieldDescriptor] = []
    within: Descriptor | None = kind
    for part in name.split("."):
        field = None if within is None else field_of(within, part)
        if field is None:
            known = ", ".join(sorted(each.json_name for each in kind.fields))
            _refuse(name, f"There is no such query parameter. There are: {known or 'none'}.")
        path.append(field)
        within = None if field.is_repeated else field.message_type
    if not is_textual(path[-1]):
        _refuse(name, "This field is an object: name a field in it, as in a.b, or send it in a body.")
    return path


def is_textual(field: FieldDescriptor) -> bool:
    """Whether the field, or each of its items, can be a query parameter."""
    return field.message_type is None or field.message_type.full_name in _TEXTUAL


def _value(field: FieldDescriptor, name: str, text: str) -> object:
    is_bool = field.type == FieldDescriptor.TYPE_BOOL
    if not is_bool and (field.message_type is None or field.message_type.name != "BoolValue"):
        return text
    if text not in ("true", "false"):
        _refuse(name, f"{text!r} is neither true nor false.")
    return text == "true"


def _insert(fields: dict[str, Any], path: list[FieldDescriptor], value: object, name: str) -> None:
    for field in path[:-1]:
        fields = fields.setdefault(field.name, {})
    last = path[-1]
    if last.is_repeated:
        fields.setdefault(last.name, []).append(value)
    elif last.name in fields:
        _refuse(name, "This parameter is given twice, and takes one value.")
    else:
        fields[last.name] = value


def _nested(names: list[str], value: object) -> dict[str, Any]:
    inner = value if len(names) == 1 else _nested(names[1:], value)
    return {names[0]: inner}


def _merge(request: Message, fields: dict[str, Any]) -> None:
    try:
        json_format.ParseDict(fields, request)
    except UNFIT as error:
        raise misfit(request.DESCRIPTOR, fields, error) from None


def _refuse(field: str, description: str) -> NoReturn:
    raise invalid(Reason.INVALID_ARGUMENT, field or "body", description)
