"""Files for the asynchronous client: disks in threads, uploads on a synchronous channel."""

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import grpc

from visionmesh.client._archive import write_archive
from visionmesh.client._async_connection import AsyncConnection
from visionmesh.client._channel import Stubs, channel_options
from visionmesh.client._errors import translate
from visionmesh.client._transfer import ProgressCallback, Receiving, Sending
from visionmesh.errors import MeshError
from visionmesh.v1 import dataset_pb2, result_pb2


async def upload(
    connection: AsyncConnection, path: Path, on_progress: ProgressCallback | None
) -> dataset_pb2.Upload:
    """Store a file. Raises MeshError and OSError."""
    loop = asyncio.get_running_loop()
    report = _on(loop, on_progress) if on_progress is not None else None
    sending = await asyncio.to_thread(Sending, path, report, connection.patience)
    while True:
        try:
            return await _send(connection, sending)
        except MeshError as error:
            delay = sending.failed(error, connection.reached, loop.time())
        await asyncio.sleep(delay)


def _on(loop: asyncio.AbstractEventLoop, on_progress: ProgressCallback) -> ProgressCallback:
    """Calls back in the loop, from the thread that sends."""

    def report(done: int, total: int) -> None:
        loop.call_soon_threadsafe(on_progress, done, total)

    return report


async def _send(connection: AsyncConnection, sending: Sending) -> dataset_pb2.Upload:
    loop, finished, address = asyncio.get_running_loop(), asyncio.Event(), connection.address

    def wake(_: object) -> None:
        loop.call_soon_threadsafe(finished.set)

    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        call = sending.begin(Stubs(channel))
        call.add_done_callback(wake)
        try:
            await finished.wait()
        finally:
            call.cancel()
    try:
        response = call.result()
    except grpc.RpcError as error:
        raise translate(error, address) from error
    connection.reached = True
    return response


async def upload_archive(
    connection: AsyncConnection,
    files: Sequence[tuple[Path, str]],
    name: str,
    on_progress: ProgressCallback | None,
) -> dataset_pb2.Upload:
    """Store files as one zip. Raises MeshError and OSError."""
    with tempfile.TemporaryDirectory(prefix="visionmesh-") as folder:
        archive = Path(folder) / name
        await _write_archive(files, archive)
        return await upload(connection, archive, on_progress)


async def _write_archive(files: Sequence[tuple[Path, str]], target: Path) -> None:
    """Zip in a thread that gives up soon after this call is cancelled."""
    given_up = threading.Event()
    try:
        await asyncio.to_thread(write_archive, files, target, lambda: not given_up.is_set())
    finally:
        given_up.set()


async def download(
    connection: AsyncConnection,
    artifact: result_pb2.Artifact,
    target: Path,
    on_progress: ProgressCallback | None,
) -> None:
    """Fetch a file. Raises MeshError (DATA_LOSS if the bytes are not those recorded) and OSError."""
    receiving = Receiving(artifact, target, on_progress)
    while not receiving.done:
        await asyncio.to_thread(receiving.open)
        try:
            await _receive(connection, receiving)
        finally:
            await asyncio.to_thread(receiving.close)
        await asyncio.to_thread(receiving.verify)


async def _receive(connection: AsyncConnection, receiving: Receiving) -> None:
    if (rest := receiving.rest()) is None:
        return
    async with aclosing(connection.stream(rest)) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(receiving.append, piece)
            receiving.report()
