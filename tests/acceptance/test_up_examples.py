"""The examples of `vmesh up --help`, run as they are written, by somebody who has a home of their own."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = 90.0  # seconds: importing a framework on a cold machine takes a while


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("default_port")
@pytest.mark.parametrize(
    ("example", "folder"),
    [("vmesh up", ".visionmesh"), ("vmesh up --port 0 --data-dir ./mesh --slots 2", "mesh")],
)
def test_example(tmp_path: Path, example: str, folder: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "visionmesh.cli", *shlex.split(example)[1:]],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        seen = ""
        while "Ctrl-C stops" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
    finally:
        process.send_signal(signal.SIGINT)
        seen += process.communicate(timeout=30)[0]
    assert process.returncode == 0, seen
    assert "127.0.0.1:" in seen
    assert str(tmp_path / folder) in seen
    assert (tmp_path / folder / "visionmesh.db").exists()
