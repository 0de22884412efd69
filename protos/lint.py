"""Checks the contracts with buf: lint, and no breaking change against the last landed version.

Images are built by protoc (see generate.py), because buf itself would fetch third-party protos
from its own registry.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from generate import PROTOS, write_image

BUF = Path(sys.executable).parent / "buf"
CONFIG = PROTOS.parent / "buf.yaml"


def main() -> int:
    """Lint, then compare; the exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        now, before = Path(scratch) / "now.binpb", Path(scratch) / "before.binpb"
        write_image(PROTOS, now)
        buf("lint", str(now))
        base = landed_version()
        if base is None:
            print("buf breaking: there is no earlier version to compare with")
            return 0
        write_image(extract(base, Path(scratch) / "before"), before)
        buf("breaking", str(now), "--against", str(before))
        print(f"buf: lint is clean, and nothing breaks clients of {base[:12]}")
    return 0


def buf(command: str, *arguments: str) -> None:
    """Run buf with the repository's configuration; its findings end the program."""
    finished = subprocess.run([BUF, command, *arguments, "--config", CONFIG], check=False)
    if finished.returncode != 0:
        sys.exit(finished.returncode)


def landed_version() -> str | None:
    """The commit to compare with: where main was when this work began, or the commit before."""
    for candidate in ("origin/main", "HEAD~1"):
        base = git("merge-base", "HEAD", candidate)
        if base and base != git("rev-parse", "HEAD") and git("ls-tree", base, "protos/visionmesh"):
            return base
    return None


def git(*arguments: str) -> str:
    """Output of git; empty if it fails."""
    finished = subprocess.run(
        ["git", "-C", str(PROTOS.parent), *arguments], check=False, capture_output=True, text=True
    )
    return finished.stdout.strip() if finished.returncode == 0 else ""


def extract(commit: str, target: Path) -> Path:
    """The contracts as they were at `commit`."""
    packed = subprocess.run(
        ["git", "-C", str(PROTOS.parent), "archive", commit, "protos"], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(target, filter="data")
    return target / "protos"


if __name__ == "__main__":
    sys.exit(main())
