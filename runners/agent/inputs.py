"""Fetches what an attempt reads: streamed to disk, verified."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import grpc
from google.rpc import status_pb2

from runners.agent import ending
from runners.agent.dataset_cache import DatasetCache
from runners.agent.ending import Ending
from runners.agent.job_environment import LocalInputs
from runners.agent.stream import AttemptLost
from runners.agent.transport import Backoff, translated
from visionmesh.errors import MeshError, Reason, error_of, reason_of
from visionmesh.v1 import runner_pb2, runner_pb2_grpc

PATIENCE_SECONDS = 300.0
"""Time without a byte after which the attempt is given up."""

DIGEST_TRIES = 3
"""Times that bytes may arrive which are not the recorded ones."""

_RESPONSE_SECONDS = 60.0
_URIS_PER_CALL = 1000
_INLINE_BYTES = 64 * 1024
_DIGEST = re.compile("[0-9a-f]{64}")
_SUFFIX = re.compile("[.][A-Za-z0-9]{1,8}")
_FINAL = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
_REFUSED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)

Place = Callable[[runner_pb2.ObjectHeader], Path]
"""Where an object goes on this machine."""


class InputFailed(Exception):
    """An input cannot be had; `ending` says how the attempt ends for it."""

    def __init__(self, ending: Ending, *, may_pass: bool = False) -> None:
        """`may_pass`: nobody has said that the input is gone or damaged."""
        super().__init__(ending.error.message if ending.error else "")
        self.ending, self.may_pass = ending, may_pass


class _Damaged(Exception):
    """What arrived is not what was announced."""


class InputFetcher:
    """Fetches the inputs of one attempt."""

    def __init__(
        self,
        runners: "runner_pb2_grpc.RunnerServiceAsyncStub",
        assignment: runner_pb2.Assignment,
        folder: Path,
        cache: DatasetCache,
    ) -> None:
        """Single objects go below `folder`."""
        self._runners, self._assignment = runners, assignment
        self._folder, self._cache = folder, cache
        self.fetched_files = 0
        """Files that were fetched, and not found in the cache."""
        self.fetched_bytes = 0
        """Bytes of these."""
        self._absent: dict[str, status_pb2.Status] = {}
        """Images that cannot be had, and why."""
        self.nothing_to_resume = ""
        """Why the training starts anew though a checkpoint of it was assigned; empty otherwise."""

    async def fetch(self, first_image_index: int) -> LocalInputs:
        """Fetch everything but images that are predicted already. Raises InputFailed or AttemptLost."""
        try:
            checkpoint, start = await self._checkpoints()
            return LocalInputs(
                dataset=await self._dataset(),
                checkpoint=checkpoint,
                images=await self._images(first_image_index),
                first_image_index=first_image_index,
                resume=self._assignment.resume and not self.nothing_to_resume,
                start_checkpoint=start,
                embedding_checkpoint=await self._checkpoint("embedding_checkpoint"),
            )
        except OSError as error:
            text = f"The inputs cannot be written to the runner's disk: {error}. Make room there."
            raise InputFailed(ending.infrastructure(text)) from error

    async def _dataset(self) -> Path | None:
        if not self._assignment.HasField("dataset"):
            return None
        wanted = self._assignment.dataset

        async def fill(folder: Path) -> None:
            await self._retrying(lambda: self._fetch_dataset(wanted, folder))

        if not _DIGEST.fullmatch(wanted.digest):  # nothing to know it by again
            folder = self._folder / "dataset"
            folder.mkdir(parents=True, exist_ok=True)
            await fill(folder)
            return folder
        return await self._cache.get(wanted.digest, fill)

    async def _fetch_dataset(self, wanted: runner_pb2.DatasetInput, folder: Path) -> None:
        headers = await self._fetch([wanted.uri], lambda header: _below(folder, header.path))
        lines = (f"{h.sha256} {h.size_bytes} {h.path}\n" for h in sorted(headers, key=lambda h: h.path))
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        if wanted.digest and digest != wanted.digest:
            raise _Damaged(f"the files of {wanted.name} do not have its digest {wanted.digest[:12]}…")

    async def _checkpoints(self) -> tuple[Path | None, Path | None]:
        """The checkpoint to use, and, when resuming, the one to start from if that proves unusable."""
        if not self._assignment.resume:
            return await self._checkpoint("checkpoint"), None
        start = await self._checkpoint("start_checkpoint")
        try:
            return await self._checkpoint("checkpoint"), start
        except InputFailed as failed:
            if failed.may_pass:
                raise  # another attempt may still resume
            self.nothing_to_resume = str(failed)
            return start, None

    async def _checkpoint(self, field: str) -> Path | None:
        if not self._assignment.HasField(field):  # type: ignore[arg-type] # one of its checkpoints
            return None
        wanted: runner_pb2.ObjectInput = getattr(self._assignment, field)
        target = self._folder / f"{field}{PurePosixPath(wanted.uri).suffix}"
        await self._single({wanted.uri: target}, [wanted])
        return target

    async def _images(self, first_index: int) -> Path | None:
        images = self._assignment.images
        if not images:
            return None
        folder = self._folder / "images"
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        paths: dict[str, Path] = {}
        for index, image in enumerate(images):  # the same image twice is fetched once
            paths.setdefault(image.uri, folder / f"{index:06d}{_suffix(image.uri)}")
        wanted = list({image.uri: image for image in images[first_index:]}.values())
        for start in range(0, len(wanted), _URIS_PER_CALL):
            await self._single(paths, wanted[start : start + _URIS_PER_CALL], self._absent)
        listed = self._folder / "images.jsonl"
        await asyncio.to_thread(listed.write_text, _lines(images, paths, self._absent), encoding="utf-8")
        return listed

    async def _single(
        self,
        paths: dict[str, Path],
        wanted: Sequence[runner_pb2.ObjectInput],
        absent: dict[str, status_pb2.Status] | None = None,
    ) -> None:
        """Fetch single objects; after a cut only those that are missing.

        Where some may be `absent`, it takes those that cannot be had.
        """
        missing = {item.uri: item for item in wanted}

        async def fetch() -> None:
            def place(header: runner_pb2.ObjectHeader) -> Path:
                if header.uri not in missing:
                    raise _Damaged(f"{header.uri} came, which was not asked for")
                return paths[header.uri]

            def arrived(header: runner_pb2.ObjectHeader) -> None:
                if header.HasField("error"):
                    if absent is None:
                        raise error_of(header.error)
                    absent[header.uri] = header.error
                promised = missing.pop(header.uri)
                changed = promised.sha256 and header.sha256 != promised.sha256
                if changed and not header.HasField("error"):
                    missing[header.uri] = promised
                    raise _Damaged(f"{header.uri} is not the object that was assigned")

            await self._fetch(list(missing), place, arrived)
            if missing:
                raise _Damaged(f"{next(iter(missing))} did not come")

        await self._retrying(fetch)

    async def _fetch(
        self,
        uris: Iterable[str],
        place: Place,
        arrived: Callable[[runner_pb2.ObjectHeader], None] = lambda _: None,
    ) -> list[runner_pb2.ObjectHeader]:
        """One call; the headers of what came, all of it verified. Raises MeshError or _Damaged."""
        request = runner_pb2.FetchObjectRequest(
            job=self._assignment.job.name, attempt=self._assignment.attempt, uris=uris
        )
        headers: list[runner_pb2.ObjectHeader] = []
        call = self._runners.FetchObject(request)
        incoming: _Incoming | None = None
        try:
            while (response := await _next(call)) is not None:
                self._bytes_came += 1
                if response.HasField("header"):
                    _refuse_unfinished(incoming)
                    # One that cannot be had is an empty file: nothing comes after its header.
                    incoming = _Incoming(response.header, place(response.header))
                    headers.append(response.header)
                elif incoming is None:
                    raise _Damaged("more bytes came than were announced")
                else:
                    await incoming.write(response.chunk)
                    self.fetched_bytes += len(response.chunk)
                if incoming.is_whole:  # if the call breaks off after it, it need not come again
                    arrived(incoming.finish())
                    incoming = None
            _refuse_unfinished(incoming)
        finally:
            call.cancel()
            if incoming is not None:
                incoming.close()
        self.fetched_files += len(headers)
        return headers

    _bytes_came = 0

    async def _retrying(self, fetch: Callable[[], Awaitable[None]]) -> None:
        """Try until it is done. Raises InputFailed or AttemptLost."""
        backoff, damaged = Backoff(), 0
        loop = asyncio.get_running_loop()
        came, since = self._bytes_came, loop.time()
        while True:
            try:
                await fetch()
                return
            except _Damaged as error:
                damaged += 1
                if damaged == DIGEST_TRIES:
                    text = f"After {DIGEST_TRIES} tries, {error}. The stored file may be damaged."
                    raise InputFailed(ending.infrastructure(text)) from error
            except MeshError as error:
                if self._bytes_came > came:
                    came, since = self._bytes_came, loop.time()
                    backoff.reset()
                _give_up_if_final(error, loop.time() - since)
                await backoff.wait(error)


class _Incoming:
    """One object on its way to disk."""

    def __init__(self, header: runner_pb2.ObjectHeader, target: Path) -> None:
        self._header, self._target = header, target
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = target.open("wb")
        self._digest, self._size = hashlib.sha256(), 0

    async def write(self, chunk: bytes) -> None:
        if len(chunk) > _INLINE_BYTES:
            await asyncio.to_thread(self._write, chunk)
        else:
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)
        self._size += len(chunk)

    @property
    def is_whole(self) -> bool:
        """Whether all announced bytes have come."""
        return self._size >= self._header.size_bytes

    def finish(self) -> runner_pb2.ObjectHeader:
        """Close the file. Raises _Damaged if it is not as announced."""
        self.close()
        header = self._header
        if self._size != header.size_bytes:
            raise _Damaged(f"{header.uri} has {self._size} bytes, not the announced {header.size_bytes}")
        if header.sha256 and self._digest.hexdigest() != header.sha256:
            raise _Damaged(f"{header.uri} does not have the announced SHA-256 {header.sha256[:12]}…")
        return header

    def close(self) -> None:
        self._file.close()


def _refuse_unfinished(incoming: _Incoming | None) -> None:
    """Raises _Damaged if there is one: it has fewer bytes than announced."""
    if incoming is not None:
        incoming.finish()


async def _next(
    call: "grpc.aio.UnaryStreamCall[runner_pb2.FetchObjectRequest, runner_pb2.FetchObjectResponse]",
) -> runner_pb2.FetchObjectResponse | None:
    """The next response, or None at the end. Raises MeshError."""
    with translated():
        async with asyncio.timeout(_RESPONSE_SECONDS):
            response = await call.read()
        return response if isinstance(response, runner_pb2.FetchObjectResponse) else None


def _give_up_if_final(error: MeshError, seconds_without_progress: float) -> None:
    if error.reason == Reason.ATTEMPT_SUPERSEDED:
        raise AttemptLost(str(error)) from error
    if error.code in _FINAL:
        raise InputFailed(ending.user_error(error.reason, f"An input cannot be fetched: {error}")) from error
    over = seconds_without_progress > PATIENCE_SECONDS
    if error.code in _REFUSED or over:
        ended = ending.infrastructure(f"The inputs cannot be fetched: {error}")
        raise InputFailed(ended, may_pass=over) from error


def _below(folder: Path, path: str) -> Path:
    """`folder`/`path`. Raises _Damaged for a path that would leave the folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
        raise _Damaged(f"the path {path!r} is not one inside a dataset")
    return folder.joinpath(*parts)


def _suffix(uri: str) -> str:
    """The ending of a file's name, where it looks like one; an id may have anything behind a dot."""
    suffix = PurePosixPath(uri).suffix
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _lines(
    images: Sequence[runner_pb2.ObjectInput], paths: dict[str, Path], absent: dict[str, status_pb2.Status]
) -> str:
    lines = []
    for image in images:
        entry: dict[str, object] = {"path": str(paths[image.uri]), "uri": image.display_name or image.uri}
        if why := absent.get(image.uri):
            entry["error"] = {"code": why.code, "reason": reason_of(why), "message": why.message}
        lines.append(json.dumps(entry) + "\n")
    return "".join(lines)
