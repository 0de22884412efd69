"""JSON of strangers, with the line on which each object begins."""

import json
from bisect import bisect_right
from json.decoder import JSONObject  # type: ignore[attr-defined] # what the decoder itself calls
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from visionmesh.datasets.report import DatasetReport


class Located(dict[str, Any]):
    """An object of JSON that knows where it is."""

    line = 0
    """From 1."""


class _Decoder(json.JSONDecoder):
    """The standard one in its form without C, which tells where it is."""

    def __init__(self) -> None:
        super().__init__()
        self._starts: list[int] = []
        self.parse_object = self._located
        self.scan_once = py_make_scanner(self)

    def decode(self, s: str, *args: Any) -> Any:
        self._starts = [0, *(at + 1 for at, character in enumerate(s) if character == "\n")]
        return super().decode(s, *args)

    def _located(self, place: tuple[str, int], *args: Any) -> tuple[Located, int]:
        content, end = JSONObject(place, *args)
        found = Located(content)
        found.line = bisect_right(self._starts, place[1] - 1)
        return found, end


def load(file: Path, name: str, max_bytes: int, report: DatasetReport, *, located: bool) -> dict[str, Any]:
    """The object in `file`; empty, and noted as a problem, if there is none.

    With `located` it and those in it are `Located`: some thirty times slower.
    """
    if file.stat().st_size > max_bytes:
        report.add_problem(name, 0, f"it has more than {max_bytes} bytes; split the dataset")
        return {}
    try:
        text = file.read_bytes().decode("utf-8-sig")
        content = json.loads(text, cls=_Decoder) if located else json.loads(text)
    except (ValueError, RecursionError) as error:
        report.add_problem(name, getattr(error, "lineno", 0), f"it is no JSON: {error}")
        return {}
    if not isinstance(content, dict):
        report.add_problem(name, 0, "it must be an object {…}")
        return {}
    return content


def line_of(entry: dict[str, Any]) -> int:
    """The line on which an object begins; 0 if nobody has looked."""
    return entry.line if isinstance(entry, Located) else 0
