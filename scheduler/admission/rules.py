"""Broken protovalidate rules in words: which field, what is wrong, what would be right."""

import re
from typing import Any

import protovalidate
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from visionmesh.errors import Violation

_LONGEST_VALUE = 60

# What patterns of the protos mean, for people; tests hold this list against the protos.
PATTERNS = {
    "^jobs/[a-z0-9-]{1,63}$": "must have the form jobs/{job}",
    "^jobs/[a-z0-9-]{1,63}/result$": "must have the form jobs/{job}/result",
    "^jobs/[a-z0-9-]{1,63}/artifacts/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$": (
        "must have the form jobs/{job}/artifacts/{artifact}"
    ),
    "^datasets/[a-z0-9-]{1,63}$": "must have the form datasets/{dataset}",
    "^uploads/[a-z0-9-]{1,63}$": "must have the form uploads/{upload}",
    "^runners/[a-z0-9-]{1,63}$": "must have the form runners/{runner}",
    "^(cpu|mps|cuda(:[0-9]+(,[0-9]+)*)?)$": 'must be "cpu", "mps", "cuda" or such as "cuda:0,1"',
    "^[a-z][a-z0-9_]{0,62}$": "must be 1 to 63 of a-z, 0-9 and _, a letter first",
    "^[a-z][a-z0-9_-]{0,31}$": "must be 1 to 32 of a-z, 0-9, _ and -, a letter first",
    "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "must be 1 to 63 of a-z, 0-9 and -, no - at the ends",
    "^[a-z0-9]([a-z0-9_./-]{0,61}[a-z0-9])?$": (
        "must be 1 to 63 of a-z, 0-9, _, ., / and -, a letter or digit at the ends"
    ),
    "^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$": "must be a path of letters, digits, _, . and -, no / at the ends",
    "^[0-9a-f]{64}$": "must be a SHA-256 as 64 digits of 0-9 and a-f",
    "^[^/\\\\\\x00]{1,255}$": "must be 1 to 255 characters without / and \\",
}

_BETWEEN = re.compile(r"^must be greater than or equal to (\S+) and less than or equal to (\S+)$")


def violations_of(message: Message) -> list[Violation]:
    """Every field of `message` that breaks a rule, once; empty if it is fine."""
    found = [_violation(message.DESCRIPTOR, broken) for broken in protovalidate.collect_violations(message)]
    return list({violation.field: violation for violation in reversed(found)}.values())[::-1]


def _violation(descriptor: Any, broken: Any) -> Violation:
    path = _path(broken.proto.field)
    last = _last(descriptor, [element.field_name for element in broken.proto.field.elements])
    if isinstance(last, list):
        return Violation(path, f"set exactly one of {', '.join(last)}")
    if isinstance(last, EnumDescriptor) and broken.proto.rule_id == "enum.defined_only":
        known = ", ".join(value.name for value in last.values if value.number)
        return Violation(path, f"must be one of {known}" + _shown(broken.field_value))
    pattern = broken.rule_value if isinstance(broken.rule_value, str) else ""
    text = PATTERNS.get(pattern, broken.proto.message)
    return Violation(path, _BETWEEN.sub(r"must be between \1 and \2", text) + _shown(broken.field_value))


def _last(descriptor: Any, steps: list[str]) -> list[str] | EnumDescriptor | None:
    """What the last step of a path leads to: the names of a oneof, an enum, or something else."""
    inside = descriptor
    for step in steps:
        if inside is None:
            return None
        if step in inside.oneofs_by_name:
            return [field.name for field in inside.oneofs_by_name[step].fields]
        field = inside.fields_by_name[step]
        if isinstance(field.enum_type, EnumDescriptor):
            return field.enum_type
        inside = field.message_type
    return None


def _shown(value: object) -> str:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return ""
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        return f", got {value[:_LONGEST_VALUE]!r}… ({len(value)} characters)"
    return f", got {value!r}"


def _path(field: Any) -> str:
    """A protovalidate path as dotted text, such as job.labels["team"] or job.train.epochs."""
    parts: list[str] = []
    for element in field.elements:
        text = element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            text += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
        parts.append(text)
    return ".".join(parts)
