"""Which bytes of a file are wanted: Range, If-Range and If-None-Match (RFC 9110)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class File:
    """What is known of a file before its bytes."""

    size_bytes: int
    etag: str
    """In quotes; empty if not known."""


@dataclass(frozen=True)
class Span:
    """Bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """How many they are."""
        return self.stop - self.start


class Unsatisfiable(Exception):
    """No byte of the range is in the file."""


def span_of(headers: Mapping[str, str], file: File) -> Span | None:
    """The range that is asked for; None for the whole file, as for several ranges at once.

    Raises Unsatisfiable.
    """
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or found.groups() == ("", "") or not _is_same(headers.get("if-range"), file):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, file.size_bytes - int(last)), file.size_bytes
    else:
        start = int(first)
        stop = min(int(last) + 1, file.size_bytes) if last else file.size_bytes
        if last and int(last) < start:
            return None  # no range at all: RFC 9110 has it ignored
    if start >= file.size_bytes or start >= stop:
        raise Unsatisfiable
    return Span(start, stop)


def _is_same(condition: str | None, file: File) -> bool:
    return condition is None or (bool(file.etag) and condition.strip() == file.etag)


def is_known(headers: Mapping[str, str], file: File) -> bool:
    """Whether the client has this very file already."""
    known = headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return bool(file.etag) and (file.etag in tags or "*" in tags)
