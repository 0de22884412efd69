"""Class names, and what the labels are for, from files that strangers wrote.

Of data.yaml only these are read: the rest of it can point outside the dataset, or be a script.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from visionmesh.datasets.report import SERVES, DatasetReport

_MAX_BYTES = 2**20
_HOW = "write `names: [first, second, …]`"
_MAX_KEYPOINTS = 1000


@dataclass(frozen=True)
class Told:
    """What a dataset tells of its labels."""

    file: str
    class_names: tuple[str, ...]
    """By class id."""
    task: str = ""
    """What the labels are for; empty if that is left to them."""
    keypoint_shape: tuple[int, int] | None = None
    """Keypoints of each object, and numbers of each."""
    keypoint_names: tuple[str, ...] = ()
    flip_indices: tuple[int, ...] = ()
    """Which keypoint each becomes in the mirror; empty if that is not told."""


def is_there(folder: Path) -> bool:
    """Whether a file names the classes."""
    return any((folder / name).exists() for name in ("data.yaml", "data.yml", "classes.txt"))


def read(folder: Path) -> Told:
    """What is told in data.yaml, data.yml or classes.txt.

    Raises ValueError("file: what is wrong and what would be right").
    """
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return _in_yaml(folder / name)
    if (folder / "classes.txt").is_file():
        return Told("classes.txt", tuple(_names_in_text(folder / "classes.txt")))
    raise ValueError("data.yaml: there is none; write one with `names: [first, second, …]`, or a classes.txt")


def told(folder: Path, report: DatasetReport) -> Told:
    """As `read`, but what is wrong goes to the report."""
    try:
        return read(folder)
    except ValueError as error:
        file, _, message = str(error).partition(": ")
        report.add_problem(file, 0, message)
        return Told(file, ())


def mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    """Which keypoint each becomes in the mirror, by "left" and "right" in the names; empty without these."""
    swapped = [name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in names]
    if swapped == list(names) or set(swapped) != set(names):
        return ()
    return tuple(names.index(name) for name in swapped)


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path.name}: it has more than {_MAX_BYTES} bytes; it should hold class names only")
    return path.read_text("utf-8-sig", "replace")


def _names_in_text(path: Path) -> list[str]:
    named = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not named:
        raise ValueError(f"{path.name}: it is empty; write one class name per line")
    return named


def _in_yaml(path: Path) -> Told:
    content = _content(path)
    shape = _keypoint_shape(path, content.get("kpt_shape"))
    named = _keypoint_names(path, content.get("kpt_names"), shape)
    flipped = _flip_indices(path, content.get("flip_idx"), shape) or mirrored(named)
    return Told(path.name, tuple(_class_names(path, content)), _task(path, content), shape, named, flipped)


def _content(path: Path) -> dict[Any, Any]:
    text = _text(path)
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        at = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(
            f"{path.name}: it is not YAML: {error.problem or error.context}{at}; {_HOW}"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # Impossible dates, odd numbers, deep nesting: the parser lets these through as they come.
        raise ValueError(f"{path.name}: it is not YAML ({type(error).__name__}); {_HOW}") from None
    return content if isinstance(content, dict) else {}


def _class_names(path: Path, content: dict[Any, Any]) -> list[str]:
    named = content.get("names")
    if not isinstance(named, dict | list) or not named:
        raise ValueError(f"{path.name}: it lacks `names`; {_HOW}")
    listed = _in_order(path, named) if isinstance(named, dict) else named
    return [_name(path, class_id, name) for class_id, name in enumerate(listed)]


def _in_order(path: Path, named: dict[Any, Any]) -> list[Any]:
    if any(type(class_id) is not int for class_id in named) or set(named) != set(range(len(named))):
        raise ValueError(f"{path.name}: `names` must number the classes 0, 1, 2, … without a gap")
    return [named[class_id] for class_id in range(len(named))]


def _name(path: Path, number: int, name: object, what: str = "class") -> str:
    if type(name) is int:  # digits are good names; YAML reads them as numbers
        return str(name)
    if not isinstance(name, str):
        raise ValueError(
            f"{path.name}: the name of {what} {number} is no text but {str(name)[:40]!r}; put it into quotes"
        )
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{path.name}: the name of {what} {number} is empty or not printable: {name[:40]!r}")
    return name


def _task(path: Path, content: dict[Any, Any]) -> str:
    task = content.get("task", "")
    if task and task not in SERVES:
        raise ValueError(f"{path.name}: `task` must be one of {', '.join(SERVES)}, got {str(task)[:40]!r}")
    return str(task)


def _keypoint_shape(path: Path, shape: object) -> tuple[int, int] | None:
    if shape is None:
        return None
    match shape:
        case [int(count), 2 | 3 as numbers] if type(count) is int and 0 < count <= _MAX_KEYPOINTS:
            return count, numbers
    raise ValueError(f"{path.name}: `kpt_shape` must be [keypoints of each object, 2 or 3 numbers of each]")


def _keypoint_names(path: Path, named: object, shape: tuple[int, int] | None) -> tuple[str, ...]:
    """One list, or, as ultralytics has it, one for each class: those must be the same."""
    if named is None or shape is None:
        return ()
    lists = list(named.values()) if isinstance(named, dict) else [named]
    first = lists[0] if lists else None
    if not isinstance(first, list) or len(first) != shape[0] or any(other != first for other in lists):
        raise ValueError(
            f"{path.name}: `kpt_names` must be one list of {shape[0]} names, for every class the same"
        )
    return tuple(_name(path, number, name, "keypoint") for number, name in enumerate(first))


def _flip_indices(path: Path, told: object, shape: tuple[int, int] | None) -> tuple[int, ...]:
    if told is None or shape is None:
        return ()
    if (
        not isinstance(told, list)
        or any(type(index) is not int for index in told)
        or sorted(told) != list(range(shape[0]))
    ):
        raise ValueError(f"{path.name}: `flip_idx` must hold each number from 0 to {shape[0] - 1} once")
    return tuple(told)
