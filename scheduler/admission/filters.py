r"""The filter and order_by of ListJobs: text into a small typed form, without SQL.

The grammar is in job.proto: terms `field operator value` joined by AND, where a value may be a
bare word, a "quoted text" (in which \ quotes the next character), or for = and != alternatives of
bare words joined by |.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from visionmesh.errors import MeshError, Reason, invalid
from visionmesh.v1 import job_pb2, vision_pb2

STATES = tuple(name.removeprefix("JOB_STATE_") for name in vision_pb2.JobState.keys()[1:])
KINDS = tuple(field.name for field in job_pb2.Job.DESCRIPTOR.oneofs_by_name["spec"].fields)
FIELDS = (
    "state",
    "kind",
    "framework",
    "priority",
    "display_name",
    "create_time",
    "update_time",
    "retried_from",
)
ORDERED = ("create_time", "update_time", "priority")
"""Fields that can be compared by < and >, and ordered by."""

_TERM = re.compile(
    r"\s*(?P<field>[a-z_]+(?:\.[a-z0-9_./-]+)?)\s*(?P<op>!=|<=|>=|=|<|>)\s*"
    r'(?P<value>"(?:[^"\\]|\\.)*"|[^\s"|]+(?:\|[^\s"|]+)*)'
)
_AND = re.compile(r"\s+AND\b")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Term:
    """One comparison."""

    field: str
    """One of FIELDS, or labels.KEY."""
    op: str
    """=, !=, and for ordered fields also <, <=, >, >=."""
    values: tuple[str | int | datetime, ...]
    """At least one: = holds if the field is any of them, != if it is none. Times are in UTC."""


@dataclass(frozen=True)
class Order:
    """What a list is ordered by."""

    field: str = "create_time"
    descending: bool = True


def parse_filter(text: str) -> list[Term]:
    """The terms of a filter. Raises BAD_FILTER with the position of what cannot be read."""
    terms: list[Term] = []
    at = 0
    if (control := _CONTROL.search(text)) is not None:
        raise _bad(text, control.start(), "a control character cannot be part of a filter")
    while text[at:].strip():
        if terms and _AND.fullmatch(text.rstrip(), at):
            raise _bad(text, len(text.rstrip()), "expected a term after AND")
        if terms:
            joint = _AND.match(text, at)
            if joint is None:
                raise _bad(text, _next(text, at), "expected AND")
            at = joint.end()
        found = _TERM.match(text, at)
        if found is None:
            raise _bad(text, _next(text, at), "expected a term such as `state = RUNNING`")
        terms.append(_term(text, found))
        at = found.end()
    return terms


def _next(text: str, at: int) -> int:
    """Where the next character is that is no space."""
    return len(text) - len(text[at:].lstrip())


def _term(text: str, found: re.Match[str]) -> Term:
    field, op, raw = found["field"], found["op"], found["value"]
    if field not in FIELDS and not (field.startswith("labels.") and len(field) > len("labels.")):
        known = ", ".join((*FIELDS, "labels.KEY"))
        raise _bad(text, found.start("field"), f"there is no field {field!r}; known: {known}")
    quoted = raw.startswith('"')
    words = [re.sub(r"\\(.)", r"\1", raw[1:-1])] if quoted else raw.split("|")
    if op not in {"=", "!="} and field not in ORDERED:
        raise _bad(text, found.start("op"), f"{field} can be compared with = and != only")
    if op not in {"=", "!="} and len(words) > 1:
        raise _bad(text, found.start("value"), f"{op} takes one value; alternatives go with = and != only")
    return Term(field, op, tuple(_value(text, found.start("value"), field, word) for word in words))


def _value(text: str, at: int, field: str, word: str) -> str | int | datetime:
    if field == "priority":
        if not re.fullmatch("[0-9]|10", word):
            raise _bad(text, at, f"priority is a number from 0 to 10, not {word!r}")
        return int(word)
    if field.endswith("_time"):
        return _moment(text, at, word)
    allowed: Sequence[str] = {"state": STATES, "kind": KINDS}.get(field, ())
    if allowed and word not in allowed:
        raise _bad(text, at, f"{field} is one of {', '.join(allowed)}, not {word!r}")
    return word


def _moment(text: str, at: int, word: str) -> datetime:
    try:
        moment = datetime.fromisoformat(word)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        example = '"2026-01-01T00:00:00Z"'
        raise _bad(text, at, f"{word!r} is not a time such as {example}") from None


def _bad(text: str, at: int, why: str) -> MeshError:
    return invalid(Reason.BAD_FILTER, "filter", f"at character {at + 1} of {text!r}: {why}")


def parse_order(text: str) -> Order:
    """The order of a list. Raises BAD_FILTER."""
    if not text.strip():
        return Order()
    found = re.fullmatch(r"\s*([a-z_]+)(\s+(asc|desc))?\s*", text)
    if found is None or found[1] not in ORDERED:
        choice = ", ".join(ORDERED)
        text = f"{text!r} is not one of {choice}, optionally followed by ` desc`"
        raise invalid(Reason.BAD_FILTER, "order_by", text)
    return Order(found[1], found[3] == "desc")
