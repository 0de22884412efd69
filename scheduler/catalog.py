"""Which files a dataset or an unpacked upload has: a manifest object beside them in the store."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from visionmesh.datasets.archives import BadArchive, FileEntry, Limits, unpack
from visionmesh.datasets.images import SUFFIXES
from visionmesh.errors import Reason, invalid
from visionmesh.parallel import each
from visionmesh.storage import ObjectStore, read_chunks

_FILES_AT_A_TIME = 16


@dataclass(frozen=True)
class FileRecord:
    """One file of a manifest."""

    path: str
    size_bytes: int
    sha256: str


def is_image(path: str) -> bool:
    """Whether the name is that of an image in a format on the list."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


class Catalog:
    """The two stores, and the manifests in them."""

    def __init__(self, datasets: ObjectStore, artifacts: ObjectStore, limits: Limits) -> None:
        self.datasets, self.artifacts, self.limits = datasets, artifacts, limits

    async def check(self) -> None:
        """Raise StoreError unless both stores can be used."""
        await asyncio.gather(self.datasets.check(), self.artifacts.check())

    async def close(self) -> None:
        """Let go of connections."""
        await asyncio.gather(self.datasets.close(), self.artifacts.close())

    @staticmethod
    def dataset_prefix(dataset_id: str) -> str:
        """Where a dataset's files are, in the dataset store."""
        return f"datasets/{dataset_id}/"

    @staticmethod
    def upload_prefix(upload_id: str) -> str:
        """Where an upload and what was unpacked from it are, in the dataset store."""
        return f"uploads/{upload_id}/files/"

    async def manifest(self, prefix: str) -> list[FileRecord]:
        """The files below `prefix`, in order of path; empty if there is no manifest."""
        key = _manifest_key(prefix)
        if await self.datasets.stat(key) is None:
            return []
        raw = b"".join([chunk async for chunk in self.datasets.get(key)])
        return [FileRecord(**json.loads(line)) for line in raw.splitlines()]

    async def add_folder(self, folder: Path, entries: Sequence[FileEntry], prefix: str) -> None:
        """Store files of `folder` below `prefix`, the manifest last: it makes the rest count."""

        async def add(entry: FileEntry) -> str:
            chunks = read_chunks(folder / entry.path)
            await self.datasets.put(
                prefix + entry.path, chunks, size_bytes=entry.size_bytes, sha256=entry.sha256
            )
            return json.dumps(asdict(FileRecord(entry.path, entry.size_bytes, entry.sha256))) + "\n"

        lines = await each(sorted(entries, key=lambda entry: entry.path), add, _FILES_AT_A_TIME)
        await self.datasets.put(_manifest_key(prefix), _once("".join(lines).encode()))

    async def unpacked_upload(self, prefix: str, uri: str, field: str) -> list[FileRecord]:
        """The files of an uploaded zip, unpacked on first use. Raises BAD_ARCHIVE."""
        known = await self.manifest(prefix)
        if known:
            return known
        with tempfile.TemporaryDirectory(prefix="visionmesh-") as scratch:
            archive, folder = Path(scratch) / "upload.zip", Path(scratch) / "files"
            await self.fetch(self.datasets.key_of(uri) or "", archive)
            try:
                entries = await asyncio.to_thread(unpack, archive, folder, self.limits)
            except BadArchive as bad:
                raise invalid(Reason.BAD_ARCHIVE, field, str(bad)) from None
            await self.add_folder(folder, entries, prefix)
        return await self.manifest(prefix)

    async def fetch(self, key: str, target: Path) -> None:
        """Write an object of the dataset store to a file."""
        with target.open("wb") as file:
            async for chunk in self.datasets.get(key):
                await asyncio.to_thread(file.write, chunk)

    async def remove(self, prefix: str) -> None:
        """Delete everything below `prefix`, the manifest first."""
        await self.datasets.delete(_manifest_key(prefix))
        await self.datasets.delete_prefix(prefix)


def _manifest_key(prefix: str) -> str:
    return prefix.rstrip("/") + ".manifest.jsonl"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
