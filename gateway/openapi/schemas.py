"""JSON Schema of messages, as proto3 JSON writes them."""

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway.openapi.comments import comments
from gateway.openapi.rules import constraints, is_output, is_required, many, rules_of

Schema = dict[str, Any]

_INTEGER: Schema = {"type": "integer", "format": "int32"}
_LARGE: Schema = {"type": "string", "format": "int64"}
_NUMBER: Schema = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_BYTES: Schema = {"type": "string", "contentEncoding": "base64"}

_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: _BYTES,
    FieldDescriptor.TYPE_DOUBLE: _NUMBER,
    FieldDescriptor.TYPE_FLOAT: _NUMBER,
    FieldDescriptor.TYPE_INT32: _INTEGER,
    FieldDescriptor.TYPE_SINT32: _INTEGER,
    FieldDescriptor.TYPE_SFIXED32: _INTEGER,
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.TYPE_FIXED32: {"type": "integer", "minimum": 0},
}

_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
    },
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Value": {},
}


class Schemas:
    """The components of a document: everything that was referred to, and what that refers to."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def message(self, kind: Descriptor) -> Schema:
        """A schema of `kind`: a reference, but for those that proto3 JSON has a form of its own for."""
        known = _WELL_KNOWN.get(kind.full_name)
        if known is not None:
            return dict(known)
        return self._reference(kind, self._fields)

    def field(self, field: FieldDescriptor) -> Schema:
        """A schema of a field with its description and its rules."""
        rules = rules_of(field)
        schema = self._map(field) if _is_map(field) else self._repeated(field, rules)
        if not field.is_repeated:
            schema = self._single(field, rules)
        said = comments().get(field.full_name)
        return {**schema, **({"description": said} if said else {})}

    def _reference(self, kind: Any, make: Any) -> Schema:
        name = kind.full_name.removeprefix("visionmesh.v1.")
        if name not in self.components:
            self.components[name] = {}  # a message may hold itself
            self.components[name] = make(kind)
        return {"$ref": f"#/components/schemas/{name}"}

    def _fields(self, kind: Descriptor) -> Schema:
        properties = {
            field.json_name: {**self.field(field), **({"readOnly": True} if is_output(field) else {})}
            for field in kind.fields
        }
        required = [field.json_name for field in kind.fields if is_required(field)]
        schema: Schema = {"type": "object", "description": self._told(kind), "properties": properties}
        return schema | ({"required": required} if required else {})

    def _told(self, kind: Descriptor) -> str:
        """The comment, and which fields exclude each other."""
        said = comments().get(kind.full_name, "")
        choices = [oneof for oneof in kind.oneofs if len(oneof.fields) > 1]
        lines = [
            f"At most one of {', '.join(f.json_name for f in oneof.fields)} is set." for oneof in choices
        ]
        return "\n\n".join(filter(None, [said, *lines]))

    def _map(self, field: FieldDescriptor) -> Schema:
        entry: Any = field.message_type
        value = self._single(entry.fields_by_name["value"], rules_of(field).map.values)
        return {"type": "object", "additionalProperties": value, **many(rules_of(field))}

    def _repeated(self, field: FieldDescriptor, rules: Any) -> Schema:
        return {"type": "array", "items": self._single(field, rules.repeated.items), **many(rules)}

    def _single(self, field: FieldDescriptor, rules: Any) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type)
        if field.enum_type is not None:
            return self._reference(field.enum_type, _names)
        schema, found = _SCALARS.get(field.type, _LARGE), constraints(rules)
        if schema is _NUMBER and found:
            schema = {"type": "number"}  # what has a range is no NaN
        return {**schema, **found}


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _names(kind: EnumDescriptor) -> Schema:
    said = comments()
    prefix = kind.full_name.rpartition(".")[0]
    lines = [f"- `{value.name}`: {_said_of(said, prefix, kind, value.name)}" for value in kind.values]
    head = said.get(kind.full_name, "")
    return {
        "type": "string",
        "description": "\n".join([head, "", *lines]).strip(),
        "enum": [value.name for value in kind.values],
    }


def _said_of(said: dict[str, str], prefix: str, kind: EnumDescriptor, name: str) -> str:
    return " ".join((said.get(f"{kind.full_name}.{name}") or said.get(f"{prefix}.{name}", "")).split())
