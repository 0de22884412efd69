"""Broken protovalidate rules in words: which field, what is wrong, what would be right."""

from typing import Any

import protovalidate
from google.protobuf.message import Message

from visionmesh.errors import Violation

KINDS = "train, validate, infer, embed, detect_faces, embed_faces"
_LONGEST_VALUE = 60

_PATTERNS = {
    "^jobs/[a-z0-9-]{1,63}$": "must have the form jobs/{job}",
    "^datasets/[a-z0-9-]{1,63}$": "must have the form datasets/{dataset}",
    "^uploads/[a-z0-9-]{1,63}$": "must have the form uploads/{upload}",
    "^runners/[a-z0-9-]{1,63}$": "must have the form runners/{runner}",
    "^jobs/[a-z0-9-]{1,63}/result$": "must have the form jobs/{job}/result",
    "^(cpu|mps|cuda(:[0-9]+(,[0-9]+)*)?)$": 'must be "cpu", "mps", "cuda" or such as "cuda:0,1"',
}


def violations_of(message: Message) -> list[Violation]:
    """Every broken rule of `message`; empty if it is fine."""
    return [_violation(found) for found in protovalidate.collect_violations(message)]


def _violation(found: Any) -> Violation:
    path = _path(found.proto.field)
    if found.proto.rule_id == "required" and path.endswith("spec"):
        return Violation(path, f"set exactly one of {KINDS}")
    text = _PATTERNS.get(_rule_value(found), found.proto.message)
    return Violation(path, text + _shown(found.field_value))


def _rule_value(found: Any) -> str:
    value = found.rule_value
    return value if isinstance(value, str) else ""


def _shown(value: object) -> str:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return ""
    text = repr(value)
    return f", got {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}"


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
