"""Files to and from the mesh: streamed, verified, tried again. Both faces of the client drive these."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import grpc
from google.api import httpbody_pb2

from visionmesh.client import _job_calls
from visionmesh.client._archive import file_digest
from visionmesh.client._calls import Stream
from visionmesh.client._channel import Stubs
from visionmesh.client._errors import is_interruption
from visionmesh.client._resume import Backoff
from visionmesh.errors import DataLoss, MeshError, Reason
from visionmesh.v1 import dataset_pb2, result_pb2

ProgressCallback = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

CHUNK_BYTES = 256 * 1024
_SLOWEST_LINK = 128 * 1024  # bytes/s that an upload's deadline allows for
_SHORTEST_UPLOAD_DEADLINE = 60.0  # seconds
_UPLOAD_TRIES = 3


class Sending:
    """A file on its way up: begun again when it was cut or damaged, three times in all."""

    file_error: OSError | None
    """What reading the file raised; gRPC swallows what comes from an iterator of requests."""

    def __init__(self, path: Path, on_progress: ProgressCallback | None, patience: float) -> None:
        self._path, self._on_progress = path, on_progress
        self._header = _header(path)
        self._backoff = Backoff(patience)
        self._tries = 0
        self.file_error = None

    def begin(self, stubs: Stubs) -> "grpc.Future[dataset_pb2.Upload]":
        """Start a try, on a synchronous channel.

        A grpc.aio call that writes while the server refuses it reports INTERNAL instead of what the
        server said (grpc issue 36066); a synchronous one does not.
        """
        self._tries += 1
        deadline = max(_SHORTEST_UPLOAD_DEADLINE, self._header.size_bytes / _SLOWEST_LINK)
        return stubs.datasets.UploadFile.future(self._requests(), timeout=deadline)

    def failed(self, error: MeshError, reached: bool, now: float) -> float:
        """Seconds to wait before the next try; raises what ended the last one if there is none."""
        if self.file_error is not None:
            raise self.file_error
        mendable = is_interruption(error) or isinstance(error, DataLoss)
        if not reached or not mendable or self._tries == _UPLOAD_TRIES:
            raise error
        return self._backoff.delay(error, now)

    def _requests(self) -> Iterator[dataset_pb2.UploadFileRequest]:
        yield dataset_pb2.UploadFileRequest(header=self._header)
        done = 0
        try:
            with self._path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield dataset_pb2.UploadFileRequest(chunk=chunk)
                    done += len(chunk)
                    if self._on_progress is not None:
                        self._on_progress(done, self._header.size_bytes)
        except OSError as error:
            self.file_error = error
            raise


def _header(path: Path) -> dataset_pb2.UploadFileHeader:
    size_bytes = path.stat().st_size
    return dataset_pb2.UploadFileHeader(filename=path.name, size_bytes=size_bytes, sha256=file_digest(path))


class Receiving:
    """A file on its way down into a part file beside `target`.

    `target` appears only when it is whole and its digest is right. What an earlier, interrupted
    call has left is used.
    """

    done: bool
    """Whether `target` is there."""

    def __init__(
        self, artifact: result_pb2.Artifact, target: Path, on_progress: ProgressCallback | None
    ) -> None:
        self._artifact, self._target, self._on_progress = artifact, target, on_progress
        # The digest in its name: what is left of another version is never continued.
        self._part = target.with_name(f".{target.name}.{artifact.sha256[:16]}.part")
        self._file: IO[bytes] | None = None
        self._continued = False
        self._position = 0
        self.done = False

    def open(self) -> None:
        """Make ready to append."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("ab")
        self._position = self._file.tell()
        self._continued = self._position > 0

    def close(self) -> None:
        """Be ready for `verify`, or for another call."""
        if self._file is not None:
            self._file.close()

    def rest(self) -> Stream[int, result_pb2.DownloadArtifactRequest, httpbody_pb2.HttpBody, bytes] | None:
        """Brings the bytes that are not there yet; None if all are."""
        if self._position >= self._artifact.size_bytes:
            return None
        return _job_calls.download(self._artifact.name, self._position)

    def append(self, data: bytes) -> None:
        """Keep what has come."""
        if self._file is None:
            raise RuntimeError("open() comes first")
        self._file.write(data)
        self._position += len(data)

    def report(self) -> None:
        """Tell the caller how far it is."""
        if self._on_progress is not None:
            self._on_progress(self._position, self._artifact.size_bytes)

    def verify(self) -> None:
        """Make it `target` if its digest is right; else throw it away.

        Raises DataLoss, unless it began with what an earlier call had left: then it is worth
        another try from the first byte.
        """
        if file_digest(self._part) == self._artifact.sha256:
            self._part.replace(self._target)
            self.done = True
            return
        self._part.unlink()
        if not self._continued:
            raise _damaged(self._artifact)


def _damaged(artifact: result_pb2.Artifact) -> MeshError:
    message = (
        f"What arrived of {artifact.name} does not have the recorded SHA-256 {artifact.sha256[:12]}…. "
        "Download it again; if that fails too, the stored file is damaged: run the job again."
    )
    return MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, message, {"artifact": artifact.name})
