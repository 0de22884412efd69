"""A job process without a zygote: `python -m runners.process.spawned FRAMEWORK`.

Everything is imported anew, which costs seconds. For systems without fork, and to compare.
"""

import importlib
import os
import sys

from runners import framework as frameworks
from runners.framework import Framework
from runners.process import entry, fork

PARENT_VARIABLE = "VISIONMESH_AGENT_PID"
"""Process id of the agent that this process shall not outlive."""


def framework_of(name: str) -> Framework:
    """The framework of that name, or of "module:Class", which need not be installed.

    Raises FrameworkNotFound.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        return frameworks.load(name)
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise frameworks.FrameworkNotFound(f"{name!r} cannot be loaded: {error}") from error
    if not isinstance(made, Framework):
        raise frameworks.FrameworkNotFound(f"{name!r} is not a runners.framework.Framework")
    return made


def main() -> int:
    """Run the job that the environment describes."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if parent and not fork.dies_with_parent(int(parent)):
        return 1
    fork.prefer_for_oom_kill()
    return entry.run_job(framework_of(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
