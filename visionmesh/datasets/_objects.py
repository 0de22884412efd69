"""Labelled objects in pixels, as COCO and JSON files have them: read strictly, written as lines for YOLO."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visionmesh.datasets import rle
from visionmesh.datasets.report import DatasetReport

Point = tuple[float, float]
Outline = tuple[Point, ...]
Box = tuple[float, float, float, float]
"""x, y, width, height."""
Keypoint = tuple[float, float, int]
"""x, y, and 0 (not labelled), 1 (hidden) or 2 (visible)."""

_SLACK = 1.0  # pixels by which something may stick out: tools round
_HAS = {"pose": "keypoints", "obb": "oriented box", "segment": "outline", "detect": "box"}
_SHOWN = 60


class BadLabel(ValueError):
    """What a file tells of an object is wrong; the message says what would be right."""


@dataclass(frozen=True)
class Size:
    """Of an image in pixels, as it is shown."""

    width: float
    height: float

    def __str__(self) -> str:
        return f"{self.width:g} x {self.height:g}"


@dataclass(frozen=True)
class LabelledObject:
    """One object in an image; without anything but a class, the image as a whole."""

    class_id: int
    box: Box | None = None
    outlines: tuple[Outline, ...] = ()
    corners: Outline = ()
    keypoints: tuple[Keypoint, ...] = ()

    def whole(self) -> "LabelledObject":
        """With the outline of its corners, and the box around its outlines, where it tells none."""
        outlines = self.outlines or ((self.corners,) if self.corners else ())
        box = self.box or (_around(outlines) if outlines else None)
        return replace(self, outlines=outlines, box=box)

    def line(self, task: str, size: Size) -> str:
        """It as a line of a YOLO label file for `task`."""
        words = [str(self.class_id)]
        if task in {"detect", "pose"} and self.box:
            x, y, width, height = self.box
            words += _shares([(x + width / 2, y + height / 2), (width, height)], size)
        if task == "pose":
            for x, y, visible in self.keypoints:
                words += [*_shares([(x, y)], size), str(visible)]
        elif task == "obb":
            words += _shares(self.corners, size)
        elif task == "segment":
            words += _shares(joined(self.outlines), size)
        return " ".join(words) + "\n"


@dataclass(frozen=True)
class Where:
    """Where an object is told of."""

    file: str
    line: int
    object: str

    def problem(self, report: DatasetReport, message: str) -> None:
        """Note what is wrong with it."""
        report.add_problem(self.file, self.line, f"{self.object}: {message}")


class Tally:
    """Finds out what the objects of a dataset are good for."""

    def __init__(self) -> None:
        self._with = Counter[str]()
        self._without: dict[str, list[Where]] = {}
        self._keypoints: dict[int, Where] = {}

    def add(self, found: LabelledObject, where: Where) -> None:
        """Count one object."""
        there = {
            "pose": found.keypoints,
            "obb": found.corners,
            "segment": found.outlines,
            "detect": found.box,
        }
        for task, told in there.items():
            if told:
                self._with[task] += 1
            else:
                self._without.setdefault(task, []).append(where)
        if found.keypoints:
            self._keypoints.setdefault(len(found.keypoints), where)

    def settle(self, report: DatasetReport) -> None:
        """Tell the report what the labels are good for, and which objects do not go with the others."""
        if not self._with:
            report.tasks = ("classify",) if self._without else ("detect",)
            return
        for where in self._without.get("detect", ()):
            where.problem(report, "it has a class alone, and other objects have boxes; add `bbox`")
        report.tasks = tuple(task for task in _HAS if task == "detect" or task not in self._without)
        for task, absent in self._without.items():
            first = absent[0]
            report.lacking[task] = f"{first.file}: {first.object} has no {_HAS[task]}"
        if report.tasks[0] == "pose":
            self._settle_keypoints(report)
        else:
            report.keypoint_shape, report.keypoint_names, report.flip_indices = None, (), ()

    def _settle_keypoints(self, report: DatasetReport) -> None:
        count = report.keypoint_shape[0] if report.keypoint_shape else next(iter(self._keypoints))
        report.keypoint_shape = (count, 3)
        for other, where in self._keypoints.items():
            if other != count:
                where.problem(report, f"it has {other} keypoints, and others have {count}")


def read_box(told: Any, size: Size) -> Box:
    """[x, y, width, height], cut to the image. Raises BadLabel."""
    if not isinstance(told, list) or len(told) != 4 or not all(is_number(value) for value in told):
        raise BadLabel("bbox must be [x, y, width, height], four finite numbers in pixels")
    x, y, width, height = map(float, told)
    if width <= 0 or height <= 0:
        raise BadLabel(f"bbox {told} must be wider and higher than 0")
    if min(x, y) < -_SLACK or x + width > size.width + _SLACK or y + height > size.height + _SLACK:
        raise BadLabel(f"bbox {told} lies outside of the image of {size} pixels")
    left, top = max(x, 0.0), max(y, 0.0)
    return (left, top, min(x + width, size.width) - left, min(y + height, size.height) - top)


def read_outlines(told: Any, size: Size) -> tuple[Outline, ...]:
    """One outline, a list of outlines, or a mask in runs, as COCO has it. Raises BadLabel."""
    if isinstance(told, dict):
        return _read_mask(told, size)
    if not isinstance(told, list) or not told:
        raise BadLabel("an outline must be a list of points [x, y], or a mask with `counts` and `size`")
    one = all(is_number(value) for value in told) or all(_is_point(value) for value in told)
    return tuple(read_outline(part, size) for part in ([told] if one else told))


def read_outline(told: Any, size: Size, points: int = 0) -> Outline:
    """[[x, y], …] or [x, y, x, y, …], cut to the image; so many `points`, or three at least."""
    wanted = f"{points} points" if points else "three points or more"
    flat = told
    if isinstance(told, list) and all(_is_point(value) for value in told):
        flat = [value for point in told for value in point]
    if not isinstance(flat, list) or len(flat) % 2 or not all(is_number(value) for value in flat):
        raise BadLabel(f"an outline must be {wanted} [x, y], finite numbers in pixels, got {_cut(told)}")
    found = tuple(_inside(x, y, size) for x, y in zip(flat[::2], flat[1::2], strict=True))
    if len(found) < 3 or (points and len(found) != points):
        raise BadLabel(f"an outline must be {wanted}, got {len(found)}")
    if any(len({point[axis] for point in found}) == 1 for axis in (0, 1)):
        raise BadLabel("the points of its outline all lie on one line; it needs an area")
    return found


def read_keypoints(told: Any, size: Size) -> tuple[Keypoint, ...]:
    """[[x, y, visible], …] or all numbers in one list, as COCO has it. Raises BadLabel."""
    flat = told
    if isinstance(told, list) and told and all(isinstance(value, list) for value in told):
        flat = [value for point in told for value in (point if len(point) != 2 else [*point, 2])]
    if not isinstance(flat, list) or not flat or len(flat) % 3 or not all(is_number(value) for value in flat):
        raise BadLabel(f"keypoints must be a list of [x, y, visible], got {_cut(told)}")
    return tuple(_keypoint(flat[at], flat[at + 1], flat[at + 2], size) for at in range(0, len(flat), 3))


def joined(outlines: Sequence[Outline]) -> Outline:
    """Several outlines as one: bridges of no width, between points that are near, lead there and back.

    What the parts enclose stays enclosed, and holes stay holes, however overlaps are filled.
    """
    whole, *rest = sorted(outlines, key=len, reverse=True)
    for part in rest:
        at = _nearest(whole, part[0])
        to = _nearest(part, whole[at])
        whole = (*whole[: at + 1], *part[to:], *part[: to + 1], *whole[at:])
    return whole


def _nearest(outline: Outline, point: Point) -> int:
    return min(range(len(outline)), key=lambda at: math.dist(outline[at], point))


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_mask(told: dict[str, Any], size: Size) -> tuple[Outline, ...]:
    if told.get("size") != [size.height, size.width]:
        raise BadLabel(f"the `size` of its mask must be [height, width] of the image of {size} pixels")
    try:
        return rle.outlines(told.get("counts"), int(size.width), int(size.height))
    except ValueError as error:
        raise BadLabel(f"its mask cannot be read: {error}") from None


def _keypoint(x: float, y: float, visible: float, size: Size) -> Keypoint:
    if visible not in (0, 1, 2):
        raise BadLabel(f"a keypoint's third number must be 0 (not labelled), 1 (hidden) or 2, got {visible}")
    return (*_inside(x, y, size), int(visible)) if visible else (0.0, 0.0, 0)


def _inside(x: float, y: float, size: Size) -> Point:
    """A point, cut to the image."""
    if not (-_SLACK <= x <= size.width + _SLACK and -_SLACK <= y <= size.height + _SLACK):
        raise BadLabel(f"the point [{x}, {y}] lies outside of the image of {size} pixels")
    return min(max(float(x), 0.0), size.width), min(max(float(y), 0.0), size.height)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_number(part) for part in value)


def _around(outlines: Iterable[Outline]) -> Box:
    points = [point for outline in outlines for point in outline]
    left, top = min(x for x, _ in points), min(y for _, y in points)
    return left, top, max(x for x, _ in points) - left, max(y for _, y in points) - top


def _shares(points: Iterable[Point], size: Size) -> list[str]:
    return [f"{value:.6f}" for x, y in points for value in (x / size.width, y / size.height)]


def _cut(value: Any) -> str:
    return repr(value)[:_SHOWN]
