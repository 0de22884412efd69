"""Option values: text in, typed values out. What cannot be read is refused with an example."""

import json
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeAlias

import typer

from visionmesh.v1 import job_pb2, result_pb2

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


def box_prompt(text: str) -> job_pb2.Prompt:
    """A prompt for the object in a box: "10,20,90,80", or "10,20,90,80@3" for the fourth image alone."""
    numbers, index = _place(text, "--prompt-box", "10,20,90,80")
    if len(numbers) != 1 or len(numbers[0]) != 4:
        raise typer.BadParameter(f"{text!r} is not left,top,right,bottom", param_hint="--prompt-box")
    left, top, right, bottom = numbers[0]
    box = result_pb2.BoundingBox(x_min=left, y_min=top, x_max=right, y_max=bottom)
    return job_pb2.Prompt(box=box, image_index=index)


def point_prompt(text: str) -> job_pb2.Prompt:
    """A prompt for the object at a point: "50,50"; at several, one beside it: "50,50;60,60;!5,5"."""
    places = [place.strip() for place in text.partition("@")[0].split(";")]
    numbers, index = _place(text.replace("!", ""), "--prompt-point", "50,50")
    if any(len(place) != 2 for place in numbers):
        raise typer.BadParameter(f"{text!r} is not x,y or x,y;x,y", param_hint="--prompt-point")
    points = [
        job_pb2.PromptPoint(x=x, y=y, background=place.startswith("!"))
        for place, (x, y) in zip(places, numbers, strict=True)
    ]
    return job_pb2.Prompt(points=job_pb2.PromptPoints(points=points), image_index=index)


def _place(text: str, option: str, example: str) -> tuple[list[list[float]], int | None]:
    """Numbers of each place, and the index of the image that is meant, if one is."""
    places, at, index = text.partition("@")
    try:
        numbers = [[float(number) for number in place.split(",")] for place in places.split(";")]
        return numbers, int(index) if at else None
    except ValueError:
        message = f"{text!r} cannot be read; write pixels like {example}, or {example}@0 for the first image"
        raise typer.BadParameter(message, param_hint=option) from None


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
