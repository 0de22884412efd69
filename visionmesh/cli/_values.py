"""Option values: text in, typed values out. What cannot be read is refused with an example."""

import json
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeAlias

import typer

Setting: TypeAlias = "bool | float | str | list[Setting] | dict[str, Setting] | None"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def duration(text: str) -> timedelta:
    """A time such as "250ms", "90s", "5m", "1.5h"; a bare number is seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time; write it like 90s, 5m or 1.5h")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def settings(pairs: Iterable[str]) -> dict[str, Setting]:
    """key=value pairs; values are read as JSON where they can be, else as text."""
    return {key: _setting(value) for key, value in _pairs(pairs, "mosaic=0").items()}


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """key=value pairs of text."""
    return _pairs(pairs, "team=vision")


def job_name(text: str) -> str:
    """jobs/{job} from jobs/{job} or {job}."""
    return text if text.startswith("jobs/") else f"jobs/{text}"


def _pairs(pairs: Iterable[str], example: str) -> dict[str, str]:
    read: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is not key=value; write it like {example}")
        if key in read:
            raise typer.BadParameter(f"{key!r} is given twice; give it once")
        read[key] = value
    return read


def _setting(text: str) -> Setting:
    try:
        value: Setting = json.loads(text)
    except ValueError:
        return text
    return value
