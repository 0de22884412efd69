"""Fetches what an attempt reads: streamed to disk, verified."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path, PurePosixPath

import grpc
from google.rpc import status_pb2

from runners.agent import ending
from runners.agent.dataset_cache import DatasetCache
from runners.agent.ending import Ending
from runners.agent.job_environment import LocalInputs
from runners.agent.stream import AttemptLost
from runners.agent.transfers import Damaged, Transfers
from runners.agent.transport import Backoff
from visionmesh.errors import MeshError, Reason, error_of, reason_of
from visionmesh.v1 import runner_pb2

PATIENCE_SECONDS = 300.0
"""Time without a byte after which the attempt is given up."""

DIGEST_TRIES = 3
"""Times that bytes may arrive which are not the recorded ones."""

_URIS_PER_CALL = 1000
_DIGEST = re.compile("[0-9a-f]{64}")
_SUFFIX = re.compile("[.][A-Za-z0-9]{1,8}")
_FINAL = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
_REFUSED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)


class InputFailed(Exception):
    """An input cannot be had; `ending` says how the attempt ends for it."""

    def __init__(self, ending: Ending, *, may_pass: bool = False) -> None:
        """`may_pass`: nobody has said that the input is gone or damaged."""
        super().__init__(ending.error.message if ending.error else "")
        self.ending, self.may_pass = ending, may_pass


class InputFetcher:
    """Fetches the inputs of one attempt."""

    def __init__(
        self,
        transfers: Transfers,
        assignment: runner_pb2.Assignment,
        folder: Path,
        cache: DatasetCache,
    ) -> None:
        """Single objects go below `folder`."""
        self._transfers, self._assignment = transfers, assignment
        self._folder, self._cache = folder, cache
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
        return await self._cache.get(wanted.digest, fill, self._folder)

    async def _fetch_dataset(self, wanted: runner_pb2.DatasetInput, folder: Path) -> None:
        headers = await self._transfers.fetch(
            [wanted.uri], lambda header: _below(folder, header.path), lambda _: None
        )
        lines = (f"{h.sha256} {h.size_bytes} {h.path}\n" for h in sorted(headers, key=lambda h: h.path))
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        if wanted.digest and digest != wanted.digest:
            raise Damaged(f"the files of {wanted.name} do not have its digest {wanted.digest[:12]}…")

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
                    raise Damaged(f"{header.uri} came, which was not asked for")
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
                    raise Damaged(f"{header.uri} is not the object that was assigned")

            await self._transfers.fetch(list(missing), place, arrived)
            if missing:
                raise Damaged(f"{next(iter(missing))} did not come")

        await self._retrying(fetch)

    async def _retrying(self, fetch: Callable[[], Awaitable[None]]) -> None:
        """Try until it is done. Raises InputFailed or AttemptLost."""
        backoff, damaged = Backoff(), 0
        loop = asyncio.get_running_loop()
        meter = self._transfers.meter
        came, since = meter.signs, loop.time()
        while True:
            try:
                await fetch()
                return
            except Damaged as error:
                damaged += 1
                if damaged == DIGEST_TRIES:
                    text = f"After {DIGEST_TRIES} tries, {error}. The stored file may be damaged."
                    raise InputFailed(ending.infrastructure(text)) from error
            except MeshError as error:
                if meter.signs > came:
                    came, since = meter.signs, loop.time()
                    backoff.reset()
                _give_up_if_final(error, loop.time() - since)
                await backoff.wait(error)


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
    """`folder`/`path`. Raises Damaged for a path that would leave the folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
        raise Damaged(f"the path {path!r} is not one inside a dataset")
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
