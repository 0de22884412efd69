"""Imports the modules that it is told to, and prints as one line of JSON how that went.

`python -m visionmesh.doctor._imports cv2 torch`, in a process of its own: such imports are slow, take
hundreds of megabytes, and may crash.
"""

import contextlib
import importlib
import json
import os
import sys
from types import ModuleType
from typing import Any


def main() -> None:
    """Import, and tell."""
    told: dict[str, dict[str, Any]] = {}
    with open(os.dup(1), "w") as out, contextlib.redirect_stdout(sys.stderr):  # noqa: PTH123 - a descriptor
        for name in sys.argv[1:]:
            told[name] = imported(name)
        out.write(json.dumps(told) + "\n")


def imported(name: str) -> dict[str, Any]:
    """The module's version, and what it says of CUDA; or the error."""
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # whatever an import may do, it is to be told
        return {"error": str(error) or type(error).__name__, "missing": _is_missing(error, name)}
    return {"version": str(getattr(module, "__version__", "")), **(_cuda(module) if name == "torch" else {})}


def _is_missing(error: BaseException, name: str) -> bool:
    """Whether the module is not installed, rather than broken."""
    return isinstance(error, ModuleNotFoundError) and error.name == name


def _cuda(torch: ModuleType) -> dict[str, Any]:
    return {"cuda": torch.version.cuda, "cuda_works": torch.cuda.is_available()}


if __name__ == "__main__":
    main()
