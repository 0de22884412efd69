"""Path templates of google.api.http: `/v1/{name=jobs/*}:cancel`.

The grammar is the one in google/api/http.proto: `*` stands for one segment, `**` for any number of them,
`{field=…}` for a field of the request, and a verb follows the last colon.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_VARIABLE = re.compile(r"(\{[^}]*\})")
_SLASH = re.compile("(%2[fF])")


@dataclass(frozen=True)
class Variable:
    """A part of a path that is a field of the request."""

    field: str
    """Path of the field, such as `name` or `job.name`."""

    pattern: str
    """Its segments, such as `jobs/*`."""

    @property
    def is_one_segment(self) -> bool:
        """Whether no slash can be in it: then an escaped one is a part of the value."""
        return "/" not in self.pattern and self.pattern != "**"


@dataclass(frozen=True)
class Template:
    """A path template that can be matched."""

    text: str
    """As the contract has it."""

    parts: tuple[str | Variable, ...]
    """Literal text and variables in order, without the verb."""

    verb: str
    """What follows the last colon; empty for none."""

    expression: re.Pattern[str]
    """One group for each variable."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The fields in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, Variable))

    def match(self, path: str) -> dict[str, str] | None:
        """The fields that `path`, still percent-encoded, gives; None if it is another path.

        Raises UnicodeDecodeError if what is encoded in it is no UTF-8.
        """
        if not self.verb and ":" in path.rpartition("/")[2]:
            return None  # a verb that this template has not
        found = self.expression.fullmatch(path)
        if found is None:
            return None
        pairs = zip(self.variables, found.groups(), strict=True)
        return {variable.field: _decoded(variable, text) for variable, text in pairs}


def parse(text: str) -> Template:
    """The template that `text` is."""
    head, colon, verb = text.rpartition(":")
    if not colon or "/" in verb or "}" in verb:
        head, verb = text, ""
    parts = tuple(_part(piece) for piece in _VARIABLE.split(head) if piece)
    expression = "".join(_expression(part) for part in parts) + (re.escape(f":{verb}") if verb else "")
    return Template(text, parts, verb, re.compile(expression))


def _part(piece: str) -> str | Variable:
    if not piece.startswith("{"):
        return piece
    field, _, pattern = piece[1:-1].partition("=")
    return Variable(field, pattern or "*")


def _expression(part: str | Variable) -> str:
    if isinstance(part, Variable):
        return f"({_expression(part.pattern)})"
    return "/".join(_SEGMENTS.get(segment) or re.escape(segment) for segment in part.split("/"))


_SEGMENTS = {"*": "[^/]+", "**": ".*"}


def _decoded(variable: Variable, text: str) -> str:
    """Escaped slashes stay escaped where the value has segments, else `a%2Fb` and `a/b` would be the same."""
    if variable.is_one_segment:
        return unquote(text, errors="strict")
    pieces = _SLASH.split(text)
    return "".join(each if _SLASH.fullmatch(each) else unquote(each, errors="strict") for each in pieces)
