"""Brings a job's files into the store, one after the other, while the job goes on."""

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from runners.agent.stream import AttemptLost
from runners.agent.transfers import Transfers
from runners.agent.transport import Backoff, Pulse
from visionmesh import names
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import process_pb2, progress_pb2, result_pb2, runner_pb2

REFUSALS = 20
"""Times that a store may refuse a file, some seconds apart; one that is away is waited for."""

_LINK_TRIES = 20

_STORED_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_FINAL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
)

_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Publish = Callable[[result_pb2.ResultItem], Awaitable[object]]
Announce = Callable[[progress_pb2.ProgressUpdate], Awaitable[object]]


class BadFile(Exception):
    """The job process named a file that cannot be sent."""


@dataclass(frozen=True)
class _Waiting:
    file: process_pb2.OutputFile
    snapshot: Path


class Uploader:
    """Sends files in the order in which they were named, and then publishes them.

    Of several versions of one artifact that wait, only the newest is sent. A file that is
    named must not be written to any more; replacing it by another is fine.
    """

    def __init__(
        self,
        transfers: Transfers,
        ref: runner_pb2.AttemptRef,
        output: Path,
        snapshots: Path,
        publish: Publish,
        announce: Announce,
        told: Callable[[], Awaitable[object]],
    ) -> None:
        """Files lie below `output`; `snapshots`, on the same disk, keeps them until they are sent.

        `told` waits until what was announced and reported before is stored.
        """
        self._transfers, self._ref = transfers, ref
        self._output, self._snapshots = output, snapshots
        self._publish, self._announce, self._told = publish, announce, told
        self._waiting: dict[str, _Waiting] = {}
        self._busy = False
        self._count = 0
        self._changed = Pulse()
        self._log = structlog.get_logger(__name__).bind(job=ref.job, attempt=ref.attempt)
        self.failure = ""
        """Why a file could not be stored; empty if all could."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting and not self._busy

    def take(self, file: process_pb2.OutputFile) -> None:
        """Queue a file. Raises BadFile if it is none, or lies elsewhere."""
        source = self._output / file.path
        if not _STORED_PATH.fullmatch(file.path) or not _STORED_PATH.fullmatch(file.artifact):
            text = f"path {file.path!r} and artifact {file.artifact!r} may hold letters, digits and _.-/"
            raise BadFile(text)
        if ".." in Path(file.path).parts or not source.resolve().is_relative_to(self._output.resolve()):
            raise BadFile(f"{file.path!r} lies outside of OUTPUT_PATH")
        self._count += 1
        snapshot = self._snapshots / str(self._count)
        try:
            if not stat.S_ISREG(source.lstat().st_mode):
                raise BadFile(f"{file.path!r} is not a regular file")
            self._snapshots.mkdir(parents=True, exist_ok=True)
            _link(source, snapshot)
        except OSError as error:
            raise BadFile(f"{file.path!r} cannot be read: {error}") from error
        older = self._waiting.pop(file.artifact, None)
        if older is not None:
            older.snapshot.unlink(missing_ok=True)
        self._waiting[file.artifact] = _Waiting(file, snapshot)
        self._changed.beat()

    async def idle(self) -> None:
        """Wait until everything queued is sent and published, or has failed."""
        while not self.is_idle:
            await self._changed.wait()

    async def run(self) -> None:
        """Send until cancelled. Raises AttemptLost."""
        while True:
            while not self._waiting:
                await self._changed.wait()
            self._busy = True
            waiting = self._waiting.pop(next(iter(self._waiting)))
            try:
                await self._send(waiting)
            except (MeshError, OSError) as error:
                self.failure = f"{waiting.file.path} could not be stored: {error}"
                self._log.warning("upload failed", path=waiting.file.path, why=str(error))
            finally:
                with suppress(OSError):
                    waiting.snapshot.unlink(missing_ok=True)
            self._busy = False
            self._changed.beat()

    async def _send(self, waiting: _Waiting) -> None:
        file = waiting.file
        header, uri = await self._store_retrying(file.path, waiting.snapshot)
        artifact = result_pb2.Artifact(
            name=names.artifact_name(names.job_id(self._ref.job), file.artifact),
            kind=file.kind,
            uri=uri,
            content_type=file.content_type,
            size_bytes=header.size_bytes,
            sha256=header.sha256,
            attempt=self._ref.attempt,
            metadata=file.metadata,
        )
        if file.HasField("checkpoint"):
            artifact.metadata.setdefault("epoch", str(file.checkpoint.epoch))
            artifact.metadata.setdefault("resumable", str(file.checkpoint.resumable).lower())
            # Whoever goes on from it must find in the history the epochs that it holds.
            await self._told()
        await self._publish(result_pb2.ResultItem(artifact=artifact))
        if file.HasField("checkpoint"):
            saved = progress_pb2.CheckpointSaved()
            saved.CopyFrom(file.checkpoint)
            saved.artifact, saved.size_bytes, saved.sha256 = artifact.name, header.size_bytes, header.sha256
            update = progress_pb2.ProgressUpdate(checkpoint_saved=saved)
            update.event_time.GetCurrentTime()
            await self._announce(update)

    async def _store_retrying(self, path: str, source: Path) -> tuple[runner_pb2.StoreObjectHeader, str]:
        """Header and URI of the stored file. Raises MeshError, OSError or AttemptLost."""
        backoff, refused = Backoff(), 0
        while True:
            header = await asyncio.to_thread(self._header, path, source)
            try:
                return header, await self._transfers.store(header, source)
            except MeshError as error:
                if error.reason == Reason.ATTEMPT_SUPERSEDED:
                    raise AttemptLost(str(error)) from error
                # A full store too; and INTERNAL is what grpc makes of a refusal in the midst of a write.
                refused += error.code not in _AWAY
                if error.code in _FINAL or refused > REFUSALS:
                    raise
                self._log.info("upload tried again", path=path, why=str(error))
                await backoff.wait(error)

    def _header(self, path: str, source: Path) -> runner_pb2.StoreObjectHeader:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        return runner_pb2.StoreObjectHeader(
            job=self._ref.job, attempt=self._ref.attempt, path=path, size_bytes=size, sha256=digest
        )


def _link(source: Path, target: Path) -> None:
    """Keep the file that `source` is now, whatever takes its place."""
    for _ in range(_LINK_TRIES):
        # A rename onto `source` between finding and linking it makes the kernel say that it is absent.
        with suppress(FileNotFoundError):
            os.link(source, target)
            return
    os.link(source, target)
