"""A client in another language, made of `vmesh protos export` alone, against a real mesh."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typescript import built, succeed

from visionmesh.cli.mesh import MeshSettings, local_mesh
from visionmesh.shapes import write_shapes

SOURCE = Path(__file__).parent / "clients" / "typescript"
DEADLINE = 120.0  # seconds for the whole conversation


@pytest.fixture(scope="module")
def client(require: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, compiled."""
    return built(SOURCE, tmp_path_factory.mktemp("typescript") / "client", require)


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """A mesh with one runner and the dataset `shapes`."""
    shapes = tmp_path / "shapes"
    write_shapes(shapes, train=48, val=16, test=0, size=64)
    async with local_mesh(MeshSettings(data_dir=tmp_path / "mesh")) as mesh:
        command = [
            sys.executable,
            "-m",
            "visionmesh.cli",
            "datasets",
            "create",
            str(shapes),
            "--id",
            "shapes",
        ]
        await asyncio.to_thread(succeed, [*command, "--address", mesh.address])
        yield mesh.address


class Cable:
    """The way from a client to the mesh; what goes through it can be cut."""

    def __init__(self, host: str, port: str) -> None:
        self._host, self._port = host, port
        self._open: set[asyncio.StreamWriter] = set()
        self.address = ""

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways."""
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, far_writer}
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    def cut(self) -> None:
        """Break every connection, as a network does."""
        for end in self._open:
            end.transport.abort()
        self._open.clear()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # cut
    finally:
        writer.close()


@asynccontextmanager
async def cable_to(address: str) -> AsyncIterator[Cable]:
    cable = Cable(*address.split(":"))
    server = await asyncio.start_server(cable.connect, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        cable.address = f"{host}:{port}"
        yield cable
        cable.cut()


async def test_it_trains_watches_to_the_end_over_a_cut_and_reads_typed_errors(
    client: Path, address: str
) -> None:
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE), cable_to(address) as cable:
        talk = await asyncio.create_subprocess_exec(
            *("node", "dist/main.js", cable.address, "datasets/shapes"),
            cwd=client,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert talk.stdout is not None
        assert talk.stderr is not None
        async for line in talk.stdout:
            lines.append(json.loads(line))
            if lines[-1].get("epoch") == 1:
                cable.cut()  # two epochs are still to come
        said = (await talk.stderr.read()).decode()
        assert await talk.wait() == 0, said

    created, *epochs, ended, bad_model, no_job = lines
    assert created["created"].startswith("jobs/train-")
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert all(0 <= line["metrics"]["mAP50"] <= 1 for line in epochs)
    assert ended["ended"] == "SUCCEEDED"
    assert ended["sequences"] == list(range(1, ended["sequence"] + 1)), "each event once, in order"
    assert "going on after" in said

    refused = bad_model["refused"]
    assert (refused["code"], refused["reason"]) == ("InvalidArgument", "UNKNOWN_MODEL")
    assert [wrong["field"] for wrong in refused["fields"]] == ["job.train.model"]
    assert "yolov8n" in refused["message"]
    refused = no_job["refused"]
    assert (refused["code"], refused["reason"]) == ("NotFound", "NOT_FOUND")
    assert refused["metadata"]["resource_name"] == "jobs/no-such-job"
