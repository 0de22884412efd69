"""Files arrive whole or not at all, however often the transfer is cut."""

import hashlib
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import grpc
import pytest
from google.api import httpbody_pb2
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.client import AsyncClient, folder_digest
from visionmesh.client._archive import folder_files, write_archive
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import dataset_pb2, dataset_pb2_grpc, result_pb2, result_pb2_grpc

CONTENT = bytes(range(256)) * 40
AWAY = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "away")


class Store(dataset_pb2_grpc.DatasetServiceServicer, result_pb2_grpc.ResultServiceServicer):
    """Serves one artifact in small pieces and takes uploads in."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.cuts: list[int] = []  # pieces after which each stream is cut
        self.offsets: list[int] = []
        self.refusals: list[MeshError] = []
        self.uploads: list[tuple[dataset_pb2.UploadFileHeader, bytes, int]] = []
        self.created: list[dataset_pb2.CreateDatasetRequest] = []

    async def ListArtifacts(self, request, context):  # noqa: N802
        best = result_pb2.Artifact(
            name=f"{request.parent}/artifacts/best", size_bytes=len(self.content), sha256=self.sha256
        )
        return result_pb2.ListArtifactsResponse(artifacts=[best])

    async def DownloadArtifact(self, request, context):  # noqa: N802
        self.offsets.append(request.read_offset)
        left = self.cuts.pop(0) if self.cuts else None
        for start in range(request.read_offset, len(self.content), 1000):
            if left == 0:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            left = None if left is None else left - 1
            yield httpbody_pb2.HttpBody(data=self.content[start : start + 1000])

    async def UploadFile(self, requests, context):  # noqa: N802
        header, content, largest = None, BytesIO(), 0
        async for request in requests:
            if request.HasField("header"):
                header = request.header
                if self.refusals:
                    status = rpc_status.to_status(errors.status_of(self.refusals.pop(0)))
                    context.set_trailing_metadata(status.trailing_metadata)
                    await context.abort(status.code, status.details)
            content.write(request.chunk)
            largest = max(largest, len(request.chunk))
        assert header is not None
        self.uploads.append((header, content.getvalue(), largest))
        return dataset_pb2.Upload(name="uploads/u1", filename=header.filename)

    async def CreateDataset(self, request, context):  # noqa: N802
        self.created.append(request)
        return dataset_pb2.Dataset(name=f"datasets/{request.dataset_id}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[AsyncClient]:
    server = grpc.aio.server()
    dataset_pb2_grpc.add_DatasetServiceServicer_to_server(store, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(store, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            yield client
    finally:
        await server.stop(None)


async def test_download_writes_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    store, steps = Store(), []
    async with serving(store) as client:
        target = await client.job("x").download(
            "best", tmp_path / "new" / "best.pt", lambda done, total: steps.append((done, total))
        )
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["best.pt"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))


async def test_a_cut_download_goes_on_where_it_was(tmp_path: Path) -> None:
    store = Store()
    store.cuts = [3, 2]
    async with serving(store) as client:
        await client.job("x").download("best", tmp_path / "best.pt")
    assert (tmp_path / "best.pt").read_bytes() == CONTENT
    assert store.offsets == [0, 3000, 5000]


async def test_what_an_earlier_call_left_is_used(tmp_path: Path) -> None:
    store = Store()
    (tmp_path / f".best.pt.{store.sha256[:16]}.part").write_bytes(CONTENT[:2500])
    async with serving(store) as client:
        await client.job("x").download("best", tmp_path / "best.pt")
    assert (tmp_path / "best.pt").read_bytes() == CONTENT
    assert store.offsets == [2500]


async def test_damaged_leftovers_are_fetched_anew(tmp_path: Path) -> None:
    store = Store()
    (tmp_path / f".best.pt.{store.sha256[:16]}.part").write_bytes(b"?" * 2500)
    async with serving(store) as client:
        await client.job("x").download("best", tmp_path / "best.pt")
    assert (tmp_path / "best.pt").read_bytes() == CONTENT
    assert store.offsets == [2500, 0]


async def test_bytes_with_another_digest_are_refused_and_not_kept(tmp_path: Path) -> None:
    store = Store()
    store.sha256 = "0" * 64
    (tmp_path / "best.pt").write_bytes(b"the one from before")
    async with serving(store) as client:
        with pytest.raises(MeshError) as raised:
            await client.job("x").download("best", tmp_path / "best.pt")
    assert raised.value.reason == Reason.DATA_LOSS
    assert (tmp_path / "best.pt").read_bytes() == b"the one from before"
    assert names(tmp_path) == ["best.pt"]


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with serving(Store(b"")) as client:
        await client.job("x").download("best", tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


async def test_an_unknown_artifact_is_not_found(tmp_path: Path) -> None:
    async with serving(Store()) as client:
        with pytest.raises(MeshError) as raised:
            await client.job("x").download("worst", tmp_path / "worst.pt")
    assert raised.value.code is grpc.StatusCode.NOT_FOUND


async def test_upload_is_chunked_and_announces_size_and_digest(tmp_path: Path) -> None:
    content = CONTENT * 70  # 717 kB
    (tmp_path / "model.pt").write_bytes(content)
    store, steps = Store(), []
    async with serving(store) as client:
        upload = await client.upload_file(tmp_path / "model.pt", lambda done, total: steps.append(done))
    ((header, received, largest),) = store.uploads
    assert upload.name == "uploads/u1"
    assert received == content
    assert largest == 256 * 1024
    assert (header.filename, header.size_bytes) == ("model.pt", len(content))
    assert header.sha256 == hashlib.sha256(content).hexdigest()
    assert steps == [262144, 524288, len(content)]


async def test_a_damaged_or_cut_upload_is_sent_again(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(CONTENT * 400)
    store = Store()
    store.refusals = [MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, "send again"), AWAY]
    async with serving(store) as client:
        _ = [artifact async for artifact in client.job("x").artifacts()]  # the mesh has been reached
        await client.upload_file(tmp_path / "model.pt")
    assert len(store.uploads) == 1


async def test_a_refused_upload_says_why(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(CONTENT * 400)
    store = Store()
    store.refusals = [MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.STORE_FULL, "the store is full")]
    async with serving(store) as client:
        with pytest.raises(MeshError, match="the store is full"):
            await client.upload_file(tmp_path / "model.pt")


async def test_a_file_that_cannot_be_read_raises_what_the_system_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt").write_bytes(CONTENT)

    def fail(*_: object) -> None:
        raise OSError("input/output error")

    async with serving(Store()) as client:
        monkeypatch.setattr("visionmesh.client._transfer._header", lambda _: dataset_pb2.UploadFileHeader())
        monkeypatch.setattr(Path, "open", fail)
        with pytest.raises(OSError, match="input/output error"):
            await client.upload_file(tmp_path / "model.pt")


async def test_a_folder_becomes_a_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "shapes"
    for name in ("images/train/0.jpg", "labels/train/0.txt", "data.yaml", ".DS_Store", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    store = Store()
    async with serving(store) as client:
        dataset = await client.create_dataset(folder, "shapes-1", "Shapes")
    assert dataset.name == "datasets/shapes-1"
    ((header, content, _),) = store.uploads
    assert header.filename == "shapes.zip"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        assert archive.namelist() == ["data.yaml", "images/train/0.jpg", "labels/train/0.txt"]
        assert archive.read("data.yaml") == b"data.yaml"
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    (request,) = store.created
    assert (request.upload, request.dataset.display_name) == ("uploads/u1", "Shapes")
    assert request.request_id


async def test_a_folder_without_files_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    store = Store()
    async with serving(store) as client:
        with pytest.raises(MeshError) as raised:
            await client.create_dataset(tmp_path)
    assert raised.value.reason == Reason.DATASET_INVALID
    assert store.uploads == []


def test_the_same_files_give_the_same_archive_and_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text("1")
        write_archive(folder_files(tmp_path / name), tmp_path / f"{name}.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert folder_digest(tmp_path / "a") == folder_digest(tmp_path / "b")
    line = f"{hashlib.sha256(b'1').hexdigest()} 1 one.txt\n"
    assert folder_digest(tmp_path / "a") == hashlib.sha256(line.encode()).hexdigest()
