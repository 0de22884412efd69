"""Files to and from the mesh: streamed, verified, tried again."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import IO

import grpc
from google.api import httpbody_pb2

from visionmesh.client._archive import file_digest
from visionmesh.client._connection import Connection, channel_options
from visionmesh.client._errors import is_interruption, translate
from visionmesh.client._resume import Backoff, resuming
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import dataset_pb2, dataset_pb2_grpc, result_pb2

ProgressCallback = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

CHUNK_BYTES = 256 * 1024
_SLOWEST_LINK = 128 * 1024  # bytes/s that an upload's deadline allows for
_SHORTEST_UPLOAD_DEADLINE = 60.0  # seconds
_UPLOAD_TRIES = 3


async def upload(
    connection: Connection, path: Path, on_progress: ProgressCallback | None, patience: float
) -> dataset_pb2.Upload:
    """Store a file; a cut or damaged transfer is begun again, three times in all."""
    header = await asyncio.to_thread(_header, path)
    backoff = Backoff(patience)
    for _ in range(_UPLOAD_TRIES - 1):
        try:
            return await _upload_once(connection, path, header, on_progress)
        except MeshError as error:
            mendable = is_interruption(error) or error.code is grpc.StatusCode.DATA_LOSS
            if not connection.reached or not mendable:
                raise
            await backoff.wait(error)
    return await _upload_once(connection, path, header, on_progress)


def _header(path: Path) -> dataset_pb2.UploadFileHeader:
    size_bytes = path.stat().st_size
    return dataset_pb2.UploadFileHeader(filename=path.name, size_bytes=size_bytes, sha256=file_digest(path))


async def _upload_once(
    connection: Connection,
    path: Path,
    header: dataset_pb2.UploadFileHeader,
    on_progress: ProgressCallback | None,
) -> dataset_pb2.Upload:
    """Upload on a synchronous channel of its own.

    A grpc.aio call that writes while the server refuses it reports INTERNAL instead of what the
    server said (grpc issue 36066); a synchronous one does not.
    """
    loop, finished = asyncio.get_running_loop(), asyncio.Event()
    file_errors: list[OSError] = []

    def report(done: int) -> None:
        if on_progress is not None:
            loop.call_soon_threadsafe(on_progress, done, header.size_bytes)

    def wake(_: object) -> None:
        loop.call_soon_threadsafe(finished.set)

    with grpc.insecure_channel(connection.address, options=channel_options(connection.address)) as channel:
        stub = dataset_pb2_grpc.DatasetServiceStub(channel)
        deadline = max(_SHORTEST_UPLOAD_DEADLINE, header.size_bytes / _SLOWEST_LINK)
        call = stub.UploadFile.future(_requests(path, header, report, file_errors), timeout=deadline)
        call.add_done_callback(wake)
        try:
            await finished.wait()
        finally:
            call.cancel()
    if file_errors:
        raise file_errors[0]
    try:
        response = call.result()
    except grpc.RpcError as error:
        raise translate(error, connection.address) from error
    connection.reached = True
    return response


def _requests(
    path: Path,
    header: dataset_pb2.UploadFileHeader,
    report: Callable[[int], None],
    file_errors: list[OSError],
) -> Iterator[dataset_pb2.UploadFileRequest]:
    """The messages of an upload; gRPC swallows what an iterator raises, so errors are put aside."""
    done = 0
    yield dataset_pb2.UploadFileRequest(header=header)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield dataset_pb2.UploadFileRequest(chunk=chunk)
                done += len(chunk)
                report(done)
    except OSError as error:
        file_errors.append(error)
        raise


async def download(
    connection: Connection,
    artifact: result_pb2.Artifact,
    target: Path,
    on_progress: ProgressCallback | None,
    patience: float,
) -> None:
    """Fetch a file into `target`, which appears only when it is whole and its digest is right.

    What an earlier, interrupted call has left beside it is used. Raises MeshError with DATA_LOSS
    if the bytes are not those that were recorded.
    """
    # The digest in its name: what is left of another version is never continued.
    part = target.with_name(f".{target.name}.{artifact.sha256[:16]}.part")
    continued = await asyncio.to_thread(_prepare, part)
    if not await _fetch(connection, artifact, part, on_progress, patience) and not (
        continued and await _fetch(connection, artifact, part, on_progress, patience)
    ):
        message = (
            f"What arrived of {artifact.name} does not have the recorded SHA-256 {artifact.sha256[:12]}…. "
            "Download it again; if that fails too, the stored file is damaged: run the job again."
        )
        raise MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, message, {"artifact": artifact.name})
    await asyncio.to_thread(part.replace, target)


def _prepare(part: Path) -> bool:
    """Make the folder of `part`; whether an earlier call has left something in it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    return part.exists()


async def _fetch(
    connection: Connection,
    artifact: result_pb2.Artifact,
    part: Path,
    on_progress: ProgressCallback | None,
    patience: float,
) -> bool:
    """Complete `part`; whether its digest is right. A wrong one is removed."""
    with await asyncio.to_thread(part.open, "ab") as file:
        have = file.tell()
        if have < artifact.size_bytes:
            await _append(connection, artifact, file, have, on_progress, patience)
    return await asyncio.to_thread(_keep_if_right, part, artifact.sha256)


def _keep_if_right(path: Path, sha256: str) -> bool:
    right = file_digest(path) == sha256
    if not right:
        path.unlink()
    return right


async def _append(
    connection: Connection,
    artifact: result_pb2.Artifact,
    file: IO[bytes],
    offset: int,
    on_progress: ProgressCallback | None,
    patience: float,
) -> None:
    def open_call(
        position: int,
    ) -> "grpc.aio.UnaryStreamCall[result_pb2.DownloadArtifactRequest, httpbody_pb2.HttpBody]":
        request = result_pb2.DownloadArtifactRequest(artifact=artifact.name, read_offset=position)
        return connection.results.DownloadArtifact(request)

    def advance(position: int, body: httpbody_pb2.HttpBody) -> int:
        return position + len(body.data)

    pieces = resuming(connection, open_call, offset, advance, patience)
    async with aclosing(pieces):
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece.data)
            offset += len(piece.data)
            if on_progress is not None:
                on_progress(offset, artifact.size_bytes)
