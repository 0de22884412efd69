"""A mesh as `vmesh up` starts it, used by nothing but curl."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from visionmesh.cli.mesh import MeshSettings, local_mesh

STORY = Path(__file__).with_name("rest_story.sh")
ROOT = STORY.parents[2]


@pytest.mark.timeout(300)
async def test_the_story_by_curl_alone(tmp_path: Path, require: Callable[[str, str], str]) -> None:
    require("curl", "apt-get install curl")
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    picture = Path(spec.origin).parent / "assets" / "zidane.jpg"
    settings = MeshSettings(tmp_path / "mesh", frameworks=("faces",), http=True, http_port=0)
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "no_proxy": "*"}
    async with local_mesh(settings) as mesh:
        process = await asyncio.create_subprocess_exec(
            *("bash", str(STORY), f"http://{mesh.http_address}", str(picture)),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await process.communicate())[0].decode()
    print(said)
    steps = [line for line in said.splitlines() if line.startswith(("PASS", "FAIL"))]
    assert process.returncode == 0, said
    assert len(steps) == 23
    assert all(line.startswith("PASS") for line in steps), said
