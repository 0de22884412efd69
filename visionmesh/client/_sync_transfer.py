"""Files over a synchronous channel."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from visionmesh.client._archive import write_archive
from visionmesh.client._connection import Connection
from visionmesh.client._transfer import ProgressCallback, Receiving, Sending
from visionmesh.errors import MeshError
from visionmesh.v1 import dataset_pb2, result_pb2


def upload(connection: Connection, path: Path, on_progress: ProgressCallback | None) -> dataset_pb2.Upload:
    """Store a file. Raises MeshError and OSError."""
    sending = Sending(path, on_progress, connection.patience)
    while True:
        try:
            return connection.answer(sending.begin(connection.stubs))
        except MeshError as error:
            delay = sending.failed(error, connection.reached, time.monotonic())
        time.sleep(delay)


def upload_archive(
    connection: Connection,
    files: Sequence[tuple[Path, str]],
    name: str,
    on_progress: ProgressCallback | None,
) -> dataset_pb2.Upload:
    """Store files as one zip. Raises MeshError and OSError."""
    with tempfile.TemporaryDirectory(prefix="visionmesh-") as folder:
        archive = Path(folder) / name
        write_archive(files, archive)
        return upload(connection, archive, on_progress)


def download(
    connection: Connection,
    artifact: result_pb2.Artifact,
    target: Path,
    on_progress: ProgressCallback | None,
) -> None:
    """Fetch a file. Raises MeshError (DATA_LOSS if the bytes are not those recorded) and OSError."""
    receiving = Receiving(artifact, target, on_progress)
    while not receiving.done:
        receiving.open()
        try:
            if (rest := receiving.rest()) is not None:
                for piece in connection.stream(rest):
                    receiving.append(piece)
                    receiving.report()
        finally:
            receiving.close()
        receiving.verify()
