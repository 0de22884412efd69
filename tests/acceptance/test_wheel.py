"""What an installed wheel can do without the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from visionmesh.contracts import export

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this repository, unpacked as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_exports_the_same_contracts_as_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visionmesh.cli", "protos", "export", "protos"]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    export(tmp_path / "of checkout")
    assert contents(tmp_path / "protos") == contents(tmp_path / "of checkout")


DOCUMENT = """
from gateway.openapi import page
from gateway.openapi.document import document
print(page.__file__, (page._OWN / "start.js").is_file(), page._bundle().is_dir())
print(document()["paths"]["/v1/jobs"]["post"]["summary"])
"""


def test_the_gateway_of_the_wheel_has_its_page_and_the_comments(unpacked: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", DOCUMENT]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        f"{unpacked}/gateway/openapi/page.py True True",
        "Accepts a job and returns it, stored, in state PENDING or QUEUED.",
    ], ran.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
