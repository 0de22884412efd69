"""What docs/frameworks.md shows, as files."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "frameworks.md"


def modules() -> dict[str, str]:
    """The page's modules by file name."""
    found = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return dict(found)


def own_test() -> str:
    """The page's module for pytest."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if block.startswith("import pytest"))
    return str(found)


def write(folder: Path) -> Path:
    """The modules below `folder`, with the pyproject.toml that the page gives them."""
    for name, code in modules().items():
        (folder / name).write_text(code, "utf-8")
    (packaging,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (folder / "pyproject.toml").write_text(packaging, "utf-8")
    return folder


@contextmanager
def on_python_path(*folders: Path) -> Iterator[None]:
    """While it lasts, every new process finds what lies in `folders`."""
    paths = [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield
