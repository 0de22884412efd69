"""Fetches published weights: `python -m runners.process.weights FRAMEWORK MODEL FOLDER`, by the agent.

A process of its own, because job processes have no business in the network, and because frameworks look the
file through with packages that the agent does not import. The last line that it prints is a JSON object:

    {"path": "..."}                                      the file, inside FOLDER
    {"refused": "...", "reason": "...", "code": 9}       there is none, or not one to be trusted
    {"unreachable": "..."}                               it cannot be had now
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from runners.framework import Framework
from runners.process import fork
from runners.process.download import DownloadFailed
from runners.process.errors import UserError
from runners.process.spawned import PARENT_VARIABLE, framework_of

MIRROR_VARIABLE = "VISIONMESH_WEIGHTS_MIRROR"
"""Where published weights are fetched from instead of the makers' address."""


def fetch(framework: Framework, model: str, folder: Path) -> dict[str, Any]:
    """What is to be told of the outcome."""
    try:
        path = framework.fetch_weights(model, folder, os.environ.get(MIRROR_VARIABLE, "").rstrip("/"))
    except UserError as error:
        return {"refused": str(error), "reason": error.reason, "code": error.code}
    except DownloadFailed as error:
        return {"unreachable": str(error)}
    return {"path": str(path)}


def main() -> int:
    """Fetch, and tell."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if parent and not fork.dies_with_parent(int(parent)):
        return 1
    name, model, folder = sys.argv[1:]
    told = fetch(framework_of(name), model, Path(folder))
    sys.stdout.write("\n" + json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
