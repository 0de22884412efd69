"""Files by HTTP: forms and bytes in, whole files and ranges out, none of them held as a whole."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from live_gateway import before
from live_scheduler import Mesh, StartMesh
from refusal_world import World, fill
from runner_double import PATIENCE
from test_gateway_streams import gateway_process

from visionmesh.v1 import dataset_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

Web = httpx.AsyncClient
MIB = 2**20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mesh: Any, dataset: dataset_pb2.Dataset) -> AsyncIterator[World]:
    async with fill(mesh, dataset.name) as filled:
        yield filled


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def web(mesh: Mesh) -> AsyncIterator[Web]:
    async with before(mesh.address) as client:
        yield client


def stored(mesh: Mesh, name: str) -> bytes:
    """What lies in the store under an upload's name."""
    (file,) = (path for path in (mesh.folder / "datasets" / name).rglob("*") if path.is_file())
    return file.read_bytes()


DATA = os.urandom(3 * MIB + 7)
DIGEST = hashlib.sha256(DATA).hexdigest()


async def in_pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(DATA), 100_000):
        yield DATA[start : start + 100_000]


WAYS: dict[str, dict[str, Any]] = {
    "a form": {"files": {"file": ("ü.bin", DATA)}},
    "a form with fields": {
        "data": {"sha256": DIGEST, "sizeBytes": str(len(DATA))}, "files": {"f": ("ü.bin", DATA)}
    },
    "bytes": {"params": {"filename": "ü.bin"}, "content": DATA},
    "bytes of unknown length": {"params": {"filename": "ü.bin", "sha256": DIGEST}, "content": in_pieces},
    "bytes with a name in the header": {
        "headers": {"Content-Disposition": "attachment; filename*=UTF-8''%C3%BC.bin"}, "content": DATA
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
async def test_a_file_goes_in(web: Web, mesh: Mesh, way: dict[str, Any]) -> None:
    content = way.get("content")
    answer = await web.post("/v1/uploads", **{**way, "content": content() if callable(content) else content})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["filename"], told["sizeBytes"], told["sha256"]) == ("ü.bin", str(len(DATA)), DIGEST)
    assert stored(mesh, told["name"]) == DATA


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no name": ({"content": b"x"}, 400, "filename"),
    "a name with folders": ({"params": {"filename": "../x"}, "content": b"x"}, 400, "filename"),
    "an unknown field": ({"params": {"filename": "x", "colour": "red"}, "content": b"x"}, 400, "colour"),
    "another digest": ({"params": {"filename": "x", "sha256": "0" * 64}, "content": b"x"}, 500, "announced"),
    "a form without a file": ({"data": {"filename": "x"}, "files": {"a": (None, "b")}}, 400, "no file"),
    "a broken form": (
        {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400,
        "breaks off",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("way", "http", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_such_upload_is_refused(
    web: Web, way: dict[str, Any], http: int, words: str
) -> None:
    answer = await web.post("/v1/uploads", **way)
    assert answer.status_code == http, answer.text
    assert words in answer.text


async def test_a_file_that_is_too_large(start_mesh: StartMesh) -> None:
    async with start_mesh(max_upload_bytes=MIB) as mesh, before(mesh.address) as web:
        announced = await web.post("/v1/uploads?filename=x", content=DATA)
        assert (announced.status_code, announced.json()["details"][0]["reason"]) == (413, "MESSAGE_TOO_LARGE")
        unknown = await web.post("/v1/uploads?filename=x", content=in_pieces())
        assert unknown.status_code == 413
        form = await web.post("/v1/uploads", files={"file": ("x", DATA)})
        assert form.status_code == 413


async def test_an_upload_that_breaks_off_leaves_nothing(web: Web, mesh: Mesh) -> None:
    there = set(kept(mesh))
    host = web.base_url.host
    _, writer = await asyncio.open_connection(host, web.base_url.port)
    head = f"POST /v1/uploads?filename=x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3000000\r\n\r\n"
    writer.write(head.encode() + DATA[:MIB])
    async with asyncio.timeout(PATIENCE):
        while set(kept(mesh)) == there:  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.02)
        writer.transport.abort()
        while set(kept(mesh)) != there:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def kept(mesh: Mesh) -> list[Path]:
    """Files in the store, unfinished ones included."""
    return [path for path in (mesh.folder / "datasets").rglob("*") if path.is_file()]


LARGE = 300 * MIB
BOUND = 60 * MIB


@pytest.mark.parametrize("form", [False, True], ids=["bytes", "form"])
async def test_memory_does_not_grow_with_the_file(mesh: Mesh, tmp_path: Path, form: bool) -> None:
    started = await gateway_process(mesh.address, tmp_path)
    watched = psutil.Process(started.process.pid)
    piece, peak = b"x" * MIB, 0
    head, tail = b"", b""
    kind = {"Content-Type": "application/octet-stream"}
    if form:
        head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
        tail, kind = b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}

    async def body() -> AsyncIterator[bytes]:
        nonlocal peak
        yield head
        for number in range(LARGE // MIB):
            yield piece
            if number % 10 == 0:
                peak = max(peak, watched.memory_info().rss)
        yield tail

    try:
        async with Web(base_url=f"http://127.0.0.1:{started.port}", timeout=120, trust_env=False) as web:
            await web.get("/readyz")
            begin = watched.memory_info().rss
            query = {} if form else {"filename": "x"}
            answer = await web.post("/v1/uploads", params=query, headers=kind, content=body())
    finally:
        started.process.terminate()
        await started.process.wait()
    assert answer.json()["sizeBytes"] == str(LARGE), answer.text
    print(f"{LARGE // MIB} MiB uploaded: the gateway grew by {(peak - begin) / MIB:.0f} MiB")
    assert peak - begin < BOUND


NOTES = b"0123456789"
ETAG = f'"{hashlib.sha256(NOTES).hexdigest()}"'

RANGES: list[tuple[dict[str, str], int, bytes, str]] = [
    ({}, 200, NOTES, ""),
    ({"Range": "bytes=3-5"}, 206, b"345", "bytes 3-5/10"),
    ({"Range": "bytes=0-0"}, 206, b"0", "bytes 0-0/10"),
    ({"Range": "bytes=7-"}, 206, b"789", "bytes 7-9/10"),
    ({"Range": "bytes=-2"}, 206, b"89", "bytes 8-9/10"),
    ({"Range": "bytes=5-500"}, 206, b"56789", "bytes 5-9/10"),
    ({"Range": "bytes=1-2,4-5"}, 200, NOTES, ""),
    ({"Range": "bytes=3-5", "If-Range": ETAG}, 206, b"345", "bytes 3-5/10"),
    ({"Range": "bytes=3-5", "If-Range": '"other"'}, 200, NOTES, ""),
    ({"If-None-Match": ETAG}, 304, b"", ""),
    ({"If-None-Match": '"other"'}, 200, NOTES, ""),
]


@pytest.mark.parametrize(("headers", "http", "body", "part"), RANGES)
async def test_a_file_or_a_part_of_it(
    web: Web, world: World, headers: dict[str, str], http: int, body: bytes, part: str
) -> None:
    answer = await web.get(f"/v1/{world.finished}/artifacts/notes:download", headers=headers)
    assert (answer.status_code, answer.content) == (http, body)
    assert answer.headers["etag"] == ETAG
    assert answer.headers.get("content-range", "") == part
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''notes.txt"
    if http != 304:
        assert answer.headers["content-length"] == str(len(body))


async def test_no_byte_of_that_range(web: Web, world: World) -> None:
    answer = await web.get(f"/v1/{world.finished}/artifacts/notes:download", headers={"Range": "bytes=10-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")
    assert answer.json()["code"] == 11


async def test_read_offset_is_the_contracts_own_way(web: Web, world: World) -> None:
    path = f"/v1/{world.finished}/artifacts/notes:download"
    answer = await web.get(path, params={"readOffset": "4"}, headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content) == (200, NOTES[4:])
    assert (await web.get(path, params={"readOffset": "11"})).status_code == 400


async def test_head_tells_of_the_file_and_sends_nothing(web: Web, world: World) -> None:
    answer = await web.head(f"/v1/{world.finished}/artifacts/notes:download")
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["content-length"], answer.headers["accept-ranges"]) == ("10", "bytes")


async def test_a_file_that_is_not_there(web: Web, world: World) -> None:
    answer = await web.get(f"/v1/{world.finished}/artifacts/none:download")
    assert (answer.status_code, answer.json()["code"]) == (404, 5)
