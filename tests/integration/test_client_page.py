"""Every Python block of docs/client.md runs, one after the other, against a real mesh."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from live_scheduler import StartMesh
from scripted_jobs import WEIGHTS, working

from visionmesh import errors
from visionmesh.errors import MeshError

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

TOLD = [
    "epoch 3: mAP50 0.75",
    "0.jpg: circle 0.90",
    "3 images, 3 circles",
    "best epoch: 3",
    f"{len(WEIGHTS)} of {len(WEIGHTS)} bytes",
    "labels/train/",
    "there is none",
    "True",
    "dns:///mesh.example:443",
    "yolo11n: 0.75",
]
"""What a reader sees, in this order."""


def run(blocks: list[str]) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)  # noqa: S102 - our own page


async def test_the_page_runs_and_tells_what_it_says(
    start_mesh: StartMesh,
    shapes_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    user = tmp_path / "user"
    shutil.copytree(shapes_folder, user / "shapes")
    shutil.copytree(shapes_folder, user / "broken")
    next((user / "broken" / "labels" / "train").iterdir()).write_text("0 0.5 0.5 7 0.1\n")
    monkeypatch.chdir(user)
    async with start_mesh() as mesh, mesh.runner("ultralytics") as runner, working(runner):
        monkeypatch.setenv("VISIONMESH_ADDRESS", mesh.address)
        here = [block.replace("127.0.0.1:50051", mesh.address) for block in BLOCKS]
        await asyncio.to_thread(run, here)
    assert (user / "best.pt").read_bytes() == (user / "results" / "best").read_bytes() == WEIGHTS
    said = capsys.readouterr().out
    position = 0
    for words in TOLD:
        assert words in said[position:], said
        position = said.index(words, position)


def test_the_page_is_typed(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "page.py").write_text("\n\n".join(BLOCKS))
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy-of-users")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache, "page.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_table_of_errors_is_the_one_that_the_code_has() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z_, ]+?)(?:, reason (\w+))? \|", PAGE.read_text(), re.MULTILINE)
    said = {(code, reason): kind for kind, codes, reason in rows for code in codes.split(", ")}
    plain = {code.name: type(MeshError(code, "", "")).__name__ for code in grpc.StatusCode}
    del plain["OK"]
    assert {code: kind for (code, reason), kind in said.items() if not reason} == plain
    assert said["RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"] == errors.TooLarge.__name__
