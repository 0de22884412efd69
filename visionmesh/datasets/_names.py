"""Class names, from files that strangers wrote.

Of data.yaml only `names` is read: the rest of it can point outside the dataset, or be a script.
"""

from pathlib import Path
from typing import Any

import yaml

_MAX_BYTES = 2**20
_HOW = "write `names: [first, second, …]`"


def read(folder: Path) -> list[str]:
    """Class names by class id, from data.yaml, data.yml or classes.txt.

    Raises ValueError("file: what is wrong and what would be right").
    """
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return _names_in_yaml(folder / name)
    if (folder / "classes.txt").is_file():
        return _names_in_text(folder / "classes.txt")
    raise ValueError("data.yaml: there is none; write one with `names: [first, second, …]`, or a classes.txt")


def as_yaml(content: dict[str, object]) -> str:
    """`content` as YAML, in its order."""
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _text(path: Path) -> str:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path.name}: it has more than {_MAX_BYTES} bytes; it should hold class names only")
    return path.read_text("utf-8-sig", "replace")


def _names_in_text(path: Path) -> list[str]:
    named = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not named:
        raise ValueError(f"{path.name}: it is empty; write one class name per line")
    return named


def _names_in_yaml(path: Path) -> list[str]:
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
    named = content.get("names") if isinstance(content, dict) else None
    if not isinstance(named, dict | list) or not named:
        raise ValueError(f"{path.name}: it lacks `names`; {_HOW}")
    listed = _in_order(path, named) if isinstance(named, dict) else named
    return [_name(path, class_id, name) for class_id, name in enumerate(listed)]


def _in_order(path: Path, named: dict[Any, Any]) -> list[Any]:
    if any(type(class_id) is not int for class_id in named) or set(named) != set(range(len(named))):
        raise ValueError(f"{path.name}: `names` must number the classes 0, 1, 2, … without a gap")
    return [named[class_id] for class_id in range(len(named))]


def _name(path: Path, class_id: int, name: object) -> str:
    if type(name) is int:  # digits are good names; YAML reads them as numbers
        return str(name)
    if not isinstance(name, str):
        raise ValueError(
            f"{path.name}: the name of class {class_id} is no text but {str(name)[:40]!r}; put it into quotes"
        )
    if not name.strip() or not name.isprintable():
        raise ValueError(
            f"{path.name}: the name of class {class_id} is empty or not printable: {name[:40]!r}"
        )
    return name
