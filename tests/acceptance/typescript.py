"""Makes programs in TypeScript from `vmesh protos export`, in folders that know no repository."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

INSTALL = "apt-get install nodejs npm"
_MADE = ("node_modules", "protos", "gen", "dist")


def built(source: Path, folder: Path, require: Callable[[str, str], str]) -> Path:
    """`folder`, with the program of `source` generated, type-checked and compiled in it."""
    for program in ("node", "npm"):
        require(program, INSTALL)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*_MADE))
    succeed([sys.executable, "-m", "visionmesh.cli", "protos", "export", str(folder / "protos")])
    _npm(folder, "ci", "--prefer-offline", "--no-audit", "--no-fund")  # from its cache, once fetched
    _npm(folder, "run", "generate")
    _npm(folder, "run", "build")
    return folder


def succeed(command: list[str], folder: Path | None = None, path: str = "") -> None:
    """Run it; what it said is told if it fails."""
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _npm(folder: Path, *arguments: str) -> None:
    """Run npm with the buf of this Python's environment on its path."""
    succeed(["npm", *arguments], folder, f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
