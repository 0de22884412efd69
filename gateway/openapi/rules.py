"""Rules of buf.validate as JSON Schema, where it has a word for them."""

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor

from visionmesh.buf.validate import validate_pb2

_NUMBERS = ("int32", "uint32", "double", "float")
_BOUNDS = {"gte": "minimum", "gt": "exclusiveMinimum", "lte": "maximum", "lt": "exclusiveMaximum"}


def rules_of(field: FieldDescriptor) -> Any:
    """The buf.validate.FieldRules of a field; empty ones where it has none."""
    return field.GetOptions().Extensions[validate_pb2.field]


def constraints(rules: Any) -> dict[str, Any]:
    """What JSON Schema says of one value that keeps `rules`."""
    kind = rules.WhichOneof("type")
    if kind in _NUMBERS:
        return _numbers(getattr(rules, kind))
    if kind == "string":
        return _text(rules.string, rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE)
    return {}


def many(rules: Any) -> dict[str, Any]:
    """What it says of a list or a map."""
    found: dict[str, Any] = {}
    for name, word in (("min_items", "minItems"), ("max_items", "maxItems")):
        if rules.HasField("repeated") and rules.repeated.HasField(name):
            found[word] = getattr(rules.repeated, name)
    if rules.HasField("map") and rules.map.HasField("max_pairs"):
        found["maxProperties"] = rules.map.max_pairs
    return found


def _numbers(rules: Any) -> dict[str, Any]:
    found = {word: getattr(rules, name) for name, word in _BOUNDS.items() if rules.HasField(name)}
    return {word: int(value) if value == int(value) else value for word, value in found.items()}


def _text(rules: Any, may_be_empty: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, word in (("min_len", "minLength"), ("max_len", "maxLength")):
        if rules.HasField(name):
            found[word] = getattr(rules, name)
    if rules.HasField("pattern"):
        found["pattern"] = f"^$|{rules.pattern}" if may_be_empty else rules.pattern
    return found


def is_required(field: FieldDescriptor) -> bool:
    """A request without it is refused."""
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behavior or rules_of(field).required


def is_output(field: FieldDescriptor) -> bool:
    """The server gives it; in requests it is ignored."""
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behavior
