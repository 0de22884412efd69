"""What is asked as the OpenAPI document says gets what the document says."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from live_gateway import before
from live_scheduler import Mesh
from refusal_world import World, fill

from visionmesh.v1 import dataset_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

Web = httpx.AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(mesh: Mesh) -> AsyncIterator[Web]:
    async with before(mesh.address, timeout_seconds=20) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mesh: Mesh, dataset: dataset_pb2.Dataset) -> AsyncIterator[World]:
    async with fill(mesh, dataset.name) as filled:
        yield filled


async def test_the_page_and_all_it_needs_are_served_here(web: Web) -> None:
    page = await web.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text.replace("<!doctype html>", "")
    for path in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"):
        assert path in page.text
        assert (await web.get(path)).status_code == 200
    assert (await web.get("/openapi.json")).json()["openapi"] == "3.1.0"


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

PHASES = os.environ.get("SCHEMATHESIS_PHASES", "fuzzing")
"""`coverage,fuzzing` asks for ten times as much, and takes minutes."""


async def test_schemathesis_finds_no_server_error_and_no_other_answer(
    web: Web, world: World, tmp_path: Path
) -> None:
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    command = [program, "run", f"{web.base_url}/openapi.json", "--checks", CHECKS, "--no-color"]
    command += ["--phases", PHASES, "--max-examples", "10", "--generation-deterministic"]
    command += ["--suppress-health-check", "all", "--request-timeout", "60"]
    command += ["--exclude-operation-id", "WatchJobs"]  # never ends by itself
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    report = said.decode()
    print(report[-600:])
    assert process.returncode == 0, report
