"""Operations: one for each route, with its parameters, its body and its answers."""

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway.openapi.comments import comments
from gateway.openapi.rules import is_required, rules_of
from gateway.openapi.schemas import Schema, Schemas
from gateway.requests import is_textual
from gateway.routes import Route, upload_parts
from gateway.templates import Variable


def path_of(route: Route) -> str:
    """The path as OpenAPI has it: /v1/jobs/{job}:cancel."""
    parts = (_expanded(part) if isinstance(part, Variable) else part for part in route.template.parts)
    return "".join(parts) + (f":{route.template.verb}" if route.template.verb else "")


def operation(route: Route, schemas: Schemas) -> Schema:
    """The operation of a route."""
    said = comments().get(route.method.full_name, route.method.name)
    parameters = [*_path_parameters(route), *_query_parameters(route, schemas)]
    body = _body(route, schemas)
    return {
        "operationId": route.method.name,
        "tags": [route.method.containing_service.name],
        "summary": " ".join(re.split(r"(?<=[.:])\s", said, maxsplit=1)[0].split()),
        "description": said,
        "parameters": parameters,
        **({"requestBody": body} if body else {}),
        "responses": {**_answers(route, schemas), "default": {"$ref": "#/components/responses/Error"}},
    }


def _expanded(variable: Variable) -> str:
    if variable.pattern == "*":
        return f"{{{variable.field}}}"
    return "/".join(
        f"{{{name}}}" if segment in ("*", "**") else segment for segment, name in _segments(variable)
    )


def _segments(variable: Variable) -> list[tuple[str, str]]:
    """Each segment, and the name of what it stands for: the item of the collection before it."""
    segments = variable.pattern.split("/")
    return [
        (segment, before.removesuffix("s"))
        for before, segment in zip(["", *segments], segments, strict=False)
    ]


def _path_parameters(route: Route) -> Iterator[Schema]:
    for variable in route.template.variables:
        field = route.method.input_type.fields_by_name[variable.field]
        pattern = rules_of(field).string.pattern
        if variable.pattern == "*":
            yield _path_parameter(variable.field, pattern)
        for (segment, name), piece in zip(_segments(variable), _pieces(variable, pattern), strict=True):
            if segment in ("*", "**") and variable.pattern != "*":
                yield _path_parameter(name, f"^{piece}$" if piece else "")


def _path_parameter(name: str, pattern: str) -> Schema:
    schema = {"type": "string", "minLength": 1, **({"pattern": pattern} if pattern else {})}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _pieces(variable: Variable, pattern: str) -> list[str]:
    """The part of `pattern` that each segment must match; empty where it cannot be told."""
    rest, pieces = pattern.removeprefix("^").removesuffix("$"), []
    segments = variable.pattern.split("/")
    for place, segment in enumerate(segments):
        literal = segments[place + 1] if place + 1 < len(segments) else ""
        piece, _, after = rest.partition(f"/{literal}") if literal else (rest, "", "")
        if segment not in ("*", "**"):
            piece, _, after = rest.partition("/")
        pieces.append(piece)
        rest = (literal + after) if literal and segment in ("*", "**") else after
    return pieces


def _query_parameters(route: Route, schemas: Schemas) -> Iterator[Schema]:
    if route.is_upload:
        yield from _leaves(upload_parts(route.method).header_type, schemas, set())
    elif route.body != "*":
        taken = {variable.field for variable in route.template.variables} | {route.body}
        yield from _leaves(route.method.input_type, schemas, taken)
    if route.is_stream and route.verb == "GET":
        text = "Where to go on, for event streams: the id of the last event."
        yield {"name": "Last-Event-ID", "in": "header", "description": text, "schema": {"type": "string"}}


def _leaves(kind: Descriptor, schemas: Schemas, taken: set[str]) -> Iterator[Schema]:
    for field in kind.fields:
        if field.name not in taken and is_textual(field):
            yield _query_parameter(field, schemas)


def _query_parameter(field: FieldDescriptor, schemas: Schemas) -> Schema:
    schema = schemas.field(field)
    said = schema.pop("description", "")
    return {
        "name": field.json_name,
        "in": "query",
        "description": said,
        "required": is_required(field),
        "schema": schema,
    }


def _body(route: Route, schemas: Schemas) -> Schema | None:
    if route.is_upload:
        return _file(route, schemas)
    if not route.body:
        return None
    if route.body == "*":
        schema = _without_path(route, schemas)
        return {"content": {"application/json": {"schema": schema}}}
    field = route.method.input_type.fields_by_name[route.body]
    return {"content": {"application/json": {"schema": schemas.field(field)}}, "required": True}


def _without_path(route: Route, schemas: Schemas) -> Schema:
    """The request; what the path gives needs not be said again."""
    given = {variable.field for variable in route.template.variables}
    kind = route.method.input_type
    fields = [field for field in kind.fields if field.name not in given]
    required = [field.json_name for field in fields if is_required(field)]
    properties = {field.json_name: schemas.field(field) for field in fields}
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _file(route: Route, schemas: Schemas) -> Schema:
    header = upload_parts(route.method).header_type
    properties: dict[str, Any] = {field.json_name: schemas.field(field) for field in header.fields}
    properties["file"] = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": properties, "required": ["file"]}
    return {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {"schema": form},
        },
    }


def _answers(route: Route, schemas: Schemas) -> Schema:
    if route.is_download:
        file = {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
        return {
            "200": {"description": "The file.", **file},
            "206": {"description": "The part of it that Range asks for.", **file},
            "304": {"description": "If-None-Match names it: the caller has it."},
        }
    schema = schemas.message(route.method.output_type)
    if not route.is_stream:
        return {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    lines = {"application/x-ndjson": {"schema": schema}}
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    text = "One such object per line; or, where Accept asks for text/event-stream, one per event."
    return {"200": {"description": text, "content": lines | events}}
