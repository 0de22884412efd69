"""Lines of YOLO label files: one object each, in the form that its task needs.

| task     | line                                                    |
|----------|---------------------------------------------------------|
| detect   | `class x_center y_center width height`                  |
| segment  | `class x1 y1 x2 y2 x3 y3 …`: an outline                 |
| obb      | `class x1 y1 x2 y2 x3 y3 x4 y4`: four corners           |
| pose     | `class x_center y_center width height`, keypoints       |
| classify | `class`: one line, for the image as a whole             |

The class is an index from 0; the rest are parts of the image's width and height. Keypoints are `x y`
or `x y visible`, as data.yaml says in `kpt_shape`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

_SHOWN = 40
_CLASS = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,9})?")
_BOX = ("x_center", "y_center", "width", "height")
_FORMS = {
    "detect": "`class x_center y_center width height`",
    "segment": "`class x1 y1 x2 y2 x3 y3 …`, an outline of three points or more",
    "obb": "`class x1 y1 x2 y2 x3 y3 x4 y4`, four corners",
    "classify": "`class` alone, in one line",
}

Shape = tuple[int, int]
"""Keypoints of each object, and numbers of each."""


def form(fields: int) -> str:
    """The task for which a line of so many fields is, without keypoints; empty if for none."""
    if fields in (1, 5, 9):
        return {1: "classify", 5: "detect", 9: "obb"}[fields]
    return "segment" if fields >= 7 and fields % 2 else ""


def task_of(forms: Counter[str]) -> str:
    """What labels are for, by their lines' forms: that of most; four corners among outlines are outlines.

    Empty if no line tells.
    """
    votes = Counter({task: count for task, count in forms.items() if task})
    if votes["segment"]:
        votes["segment"] += votes.pop("obb", 0)
    return votes.most_common(1)[0][0] if votes else ""


def problems(line: str, task: str, classes: int, shape: Shape | None = None) -> Iterator[str]:
    """What is wrong with a line; `classes` is 0 if nobody knows how many there are."""
    fields = line.split()
    if not _has_form(len(fields), task, shape):
        yield f"expected {_expected(task, shape)}, got {len(fields)} fields{_other(len(fields), task)}"
        return
    yield from _class_problems(fields[0], classes)
    if task in {"detect", "pose"}:
        yield from _box_problems(fields[1:5])
        yield from _keypoint_problems(fields[5:], shape or (0, 2))
    elif task in {"segment", "obb"}:
        yield from _outline_problems(fields[1:])


def as_task(text: str, task: str, shape: Shape | None) -> str:
    """The text of a label file that was found right, for `task`: boxes alone of what says more."""
    if task != "detect":
        return text
    lines = (line.split() for line in text.splitlines())
    return "".join(" ".join(_boxed(fields, shape)) + "\n" for fields in lines if fields)


def _boxed(fields: list[str], shape: Shape | None) -> list[str]:
    if len(fields) <= 5 or shape is not None:
        return fields[:5]
    xs, ys = [float(text) for text in fields[1::2]], [float(text) for text in fields[2::2]]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return [fields[0], *(f"{value:.6f}" for value in box)]


def _has_form(fields: int, task: str, shape: Shape | None) -> bool:
    if task == "pose":
        return shape is not None and fields == 5 + shape[0] * shape[1]
    return form(fields) == task or (task == "segment" and form(fields) == "obb")


def _expected(task: str, shape: Shape | None) -> str:
    if task != "pose":
        return _FORMS[task]
    count, numbers = shape or (0, 2)
    each = "x y visible" if numbers == 3 else "x y"
    return f"{_FORMS['detect']} and {count} keypoints `{each}`: {5 + count * numbers} fields"


def _other(fields: int, task: str) -> str:
    """What a line with the fields of another task is."""
    found = form(fields)
    return f": a line for {found} among labels for {task}" if found and task != "pose" else ""


def _class_problems(text: str, classes: int) -> Iterator[str]:
    if not _CLASS.fullmatch(text):
        yield f"the class must be a whole number from 0, got {_cut(text)!r}"
    elif classes and int(text) >= classes:
        yield f"class {text} does not exist; there are {classes} classes, 0 to {classes - 1}"


def _box_problems(fields: Sequence[str]) -> Iterator[str]:
    for label, text in zip(_BOX, fields, strict=False):
        yield from _share_problems(label, text)
        if label in {"width", "height"} and _number(text) == 0:
            yield f"{label} must be above 0"


def _outline_problems(fields: Sequence[str]) -> Iterator[str]:
    found = [problem for at, text in enumerate(fields) for problem in _share_problems(_axis(at, 2), text)]
    yield from found
    if not found and any(len({float(text) for text in fields[axis::2]}) == 1 for axis in (0, 1)):
        yield "its points all lie on one line; it needs an area"


def _keypoint_problems(fields: Sequence[str], shape: Shape) -> Iterator[str]:
    numbers = shape[1]
    for at, text in enumerate(fields):
        if at % numbers < 2:
            yield from _share_problems(f"keypoint {at // numbers + 1}: {'xy'[at % numbers]}", text)
        elif _number(text) not in (0, 1, 2):
            told = "0 (not labelled), 1 (hidden) or 2 (visible)"
            yield f"keypoint {at // numbers + 1}: visible must be {told}, got {_cut(text)!r}"


def _axis(at: int, numbers: int) -> str:
    return f"point {at // numbers + 1}: {'xy'[at % numbers]}"


def _share_problems(label: str, text: str) -> Iterator[str]:
    value = _number(text)
    if value is None:
        yield f"{label} must be a finite number, got {_cut(text)!r}"
    elif not 0 <= value <= 1:
        yield f"{label} must be a share of the image from 0 to 1, got {_cut(text)} (pixels?)"


def _number(text: str) -> float | None:
    """A finite number as every reader of labels takes it: float() alone would take 1_0 as well."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
