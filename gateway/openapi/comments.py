"""Comments of the contracts: of each message, field, enum value and RPC, by its full name.

Compiled descriptors carry none, so they are read from the .proto files that the package ships.
"""

import re
from functools import cache

from visionmesh.contracts.sources import proto_files

_PACKAGE = re.compile(r"package ([\w.]+);")
_BLOCK = re.compile(r"(message|enum|service|oneof|rpc|extend) ([\w.]+)")
_FIELD = re.compile(r"(?:(?:repeated|optional) )?(?:map<[^>]*>|\.?[\w.]+) (\w+) = \d+")
_VALUE = re.compile(r"(\w+) = -?\d+")
_TEXT = re.compile(r'"(?:\\.|[^"\\])*"')


@cache
def comments() -> dict[str, str]:
    """Each comment by the full name of what it is about."""
    found: dict[str, str] = {}
    for text in proto_files().values():
        _Reader(found).read(text.decode())
    return found


class _Reader:
    """Reads one file line by line."""

    def __init__(self, found: dict[str, str]) -> None:
        self._found, self._said = found, list[str]()
        self._open: list[str] = []
        """Name of each open block; empty for those that name nothing, such as oneofs."""
        self._package = ""

    def read(self, text: str) -> None:
        """Take every comment that stands before a declaration."""
        for raw in text.splitlines():
            line = raw.strip()
            if line.startswith("//"):
                self._said.append(line[2:].removeprefix(" "))
                continue
            if line:
                self._take(_TEXT.sub('""', line).partition("//")[0])
            self._said = []

    def _take(self, line: str) -> None:
        if found := _PACKAGE.match(line):
            self._package = found[1]
            return
        name, is_block = self._declared(line)
        if name and self._said:
            path = ".".join([self._package, *filter(None, self._open), name])
            self._found[path] = "\n".join(self._said).strip()
        opened = name if is_block and not line.startswith(("oneof", "extend")) else ""
        self._open += [opened if number == 0 else "" for number in range(line.count("{"))]
        for _ in range(min(line.count("}"), len(self._open))):
            self._open.pop()

    def _declared(self, line: str) -> tuple[str, bool]:
        if found := _BLOCK.match(line):
            return found[2], True
        found = _FIELD.match(line) or _VALUE.match(line)
        return (found[1], False) if found else ("", False)
