"""How files come to this machine and go from it: one port, and the way through the scheduler.

The other way, to the bucket itself, is in bucket_transfers.py.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import grpc

from runners.agent.transport import translated
from visionmesh.errors import MeshError, Reason
from visionmesh.storage import read_chunks
from visionmesh.v1 import runner_pb2, runner_pb2_grpc

_RESPONSE_SECONDS = 60.0
_WRITE_SECONDS = 60.0
_INLINE_BYTES = 64 * 1024

Place = Callable[[runner_pb2.ObjectHeader], Path]
"""Where an object goes on this machine. Raises Damaged for what must not come."""

Arrived = Callable[[runner_pb2.ObjectHeader], None]
"""Hears of each object that has come whole, or cannot be had, which its header says then.

Raises Damaged if it is not the one that was wanted.
"""


class Damaged(Exception):
    """What arrived is not what was announced."""


@dataclass
class Meter:
    """What has come so far."""

    files: int = 0
    """Whole and verified."""

    size_bytes: int = 0
    """Those that came again included."""

    signs: int = 0
    """Of life: it grows whenever anything comes."""


class Transfers(Protocol):
    """Moves the files of one attempt."""

    meter: Meter

    async def fetch(
        self, uris: Iterable[str], place: Place, arrived: Arrived
    ) -> list[runner_pb2.ObjectHeader]:
        """Bring objects, or all below the URI of a folder; one try. Raises MeshError, Damaged or OSError."""

    async def store(self, header: runner_pb2.StoreObjectHeader, source: Path) -> str:
        """Bring a file of the attempt into the store; one try; its URI. Raises MeshError or OSError."""


class SchedulerTransfers:
    """Through the scheduler's FetchObject and StoreObject."""

    def __init__(self, runners: "runner_pb2_grpc.RunnerServiceAsyncStub", ref: runner_pb2.AttemptRef) -> None:
        self._runners, self._ref = runners, ref
        self.meter = Meter()

    async def fetch(
        self, uris: Iterable[str], place: Place, arrived: Arrived
    ) -> list[runner_pb2.ObjectHeader]:
        """One call, whose objects come one after the other."""
        headers: list[runner_pb2.ObjectHeader] = []
        call = self._runners.FetchObject(self._request(uris))
        incoming: Incoming | None = None
        try:
            while (response := await _next(call)) is not None:
                self.meter.signs += 1
                if response.HasField("header"):
                    if incoming is not None:
                        arrived(incoming.finish())
                    # One that cannot be had is an empty file: nothing comes after its header.
                    incoming = Incoming(response.header, place(response.header))
                    headers.append(response.header)
                elif incoming is not None:
                    await incoming.write(response.chunk)
                    self.meter.size_bytes += len(response.chunk)
            if incoming is not None:
                arrived(incoming.finish())
        except MeshError as error:
            if incoming is not None and incoming.is_whole:  # it need not come again
                arrived(incoming.finish())
            if error.code is grpc.StatusCode.DATA_LOSS:
                raise Damaged(error.message) from error
            raise
        finally:
            call.cancel()
            if incoming is not None:
                incoming.close()
        self.meter.files += len(headers)
        return headers

    async def headers(self, uris: Iterable[str]) -> list[runner_pb2.ObjectHeader]:
        """What there is behind `uris`, without the bytes. Raises MeshError."""
        headers: list[runner_pb2.ObjectHeader] = []
        request = self._request(uris)
        request.headers_only = True
        call = self._runners.FetchObject(request)
        try:
            while (response := await _next(call)) is not None:
                headers.append(response.header)
        finally:
            call.cancel()
        return headers

    def _request(self, uris: Iterable[str]) -> runner_pb2.FetchObjectRequest:
        return runner_pb2.FetchObjectRequest(job=self._ref.job, attempt=self._ref.attempt, uris=uris)

    async def store(self, header: runner_pb2.StoreObjectHeader, source: Path) -> str:
        """One call."""
        call = self._runners.StoreObject()
        try:
            await self._write_all(call, header, source)
            with translated():
                async with asyncio.timeout(_WRITE_SECONDS + header.size_bytes / (1024 * 1024)):
                    response = await call
            return response.uri
        finally:
            call.cancel()

    async def _write_all(
        self,
        call: "grpc.aio.StreamUnaryCall[runner_pb2.StoreObjectRequest, runner_pb2.StoreObjectResponse]",
        header: runner_pb2.StoreObjectHeader,
        source: Path,
    ) -> None:
        """Write until the end, or until the scheduler has answered: the answer tells why."""
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
            await self._write(call, runner_pb2.StoreObjectRequest(header=header))
            async for chunk in read_chunks(source):
                if call.done():
                    return
                await self._write(call, runner_pb2.StoreObjectRequest(chunk=chunk))
            await call.done_writing()

    async def _write(
        self,
        call: "grpc.aio.StreamUnaryCall[runner_pb2.StoreObjectRequest, runner_pb2.StoreObjectResponse]",
        request: runner_pb2.StoreObjectRequest,
    ) -> None:
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                await call.write(request)
        except TimeoutError:
            call.cancel()
            text = f"the scheduler took nothing for {_WRITE_SECONDS:.0f} s"
            raise MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, text) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "the upload was cut") from None


class Incoming:
    """One object on its way to disk."""

    def __init__(self, header: runner_pb2.ObjectHeader, target: Path, *, resume: bool = False) -> None:
        """With `resume` it goes on after what an earlier try has left in `target`."""
        self._header, self._target = header, target
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = target.open("ab" if resume else "wb")
        self._digest, self.size = hashlib.sha256(), self._file.tell()
        if self.size:
            with target.open("rb") as before:
                self._digest = hashlib.file_digest(before, "sha256")

    async def write(self, chunk: bytes) -> None:
        """The next bytes. Raises OSError."""
        if len(chunk) > _INLINE_BYTES:
            await asyncio.to_thread(self._write, chunk)
        else:
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    @property
    def is_whole(self) -> bool:
        """Whether all announced bytes have come."""
        return self.size >= self._header.size_bytes

    def finish(self) -> runner_pb2.ObjectHeader:
        """Close the file. Raises Damaged if it is not as announced."""
        self.close()
        header = self._header
        if self.size != header.size_bytes:
            raise Damaged(f"{header.uri} has {self.size} bytes, not the announced {header.size_bytes}")
        if header.sha256 and self._digest.hexdigest() != header.sha256:
            raise Damaged(f"{header.uri} does not have the announced SHA-256 {header.sha256[:12]}…")
        return header

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()


async def _next(
    call: "grpc.aio.UnaryStreamCall[runner_pb2.FetchObjectRequest, runner_pb2.FetchObjectResponse]",
) -> runner_pb2.FetchObjectResponse | None:
    """The next response, or None at the end. Raises MeshError."""
    with translated():
        async with asyncio.timeout(_RESPONSE_SECONDS):
            response = await call.read()
        return response if isinstance(response, runner_pb2.FetchObjectResponse) else None
