"""Datasets on this machine, kept for the next attempt that needs them, within a bound."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from pathlib import Path

from visionmesh.datasets.kept import KEPT_SUFFIX, kept_beside

_PART = ".part"


class DatasetCache:
    """Datasets by digest, each whole or not there; shared by the attempts of this agent.

    Beside each lies a folder in which job processes keep the labels that they have read. Above
    `max_bytes` those go that were not used for the longest; one that an attempt holds never goes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._locks: dict[str, asyncio.Lock] = {}
        self._held: dict[Hashable, str] = {}
        self._bytes: dict[str, int] = {}
        self._evicting = asyncio.Lock()

    async def get(self, digest: str, fill: Callable[[Path], Awaitable[None]], holder: Hashable) -> Path:
        """The folder of the dataset; `fill` fetches it into a new folder if it is not there.

        It stays until `release` of the `holder`.
        """
        self._held[holder] = digest
        target = self._folder / digest
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if not target.exists():
                part = self._folder / f".{digest}{_PART}"
                await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
                part.mkdir(parents=True)
                await fill(part)
                part.rename(target)
            kept_beside(target).mkdir(exist_ok=True)
            os.utime(target)  # when it was last used
        await self._evict()
        return target

    def release(self, holder: Hashable) -> None:
        """The holder has done with its dataset."""
        self._held.pop(holder, None)

    async def _evict(self) -> None:
        async with self._evicting:
            sizes = await asyncio.to_thread(self._measure)
            total = sum(sizes.values())
            for target in sorted(sizes, key=lambda path: path.stat().st_mtime):
                if total <= self._max_bytes:
                    return
                if target.name not in self._held.values():
                    total -= sizes[target]
                    await asyncio.to_thread(shutil.rmtree, self._taken_out(target), ignore_errors=True)

    def _measure(self) -> dict[Path, int]:
        """Bytes of each dataset with its labels; the files of a dataset are looked at once."""
        datasets = [path for path in self._folder.iterdir() if path.suffix not in {KEPT_SUFFIX, _PART}]
        for path in datasets:
            self._bytes.setdefault(path.name, _bytes_below(path))
        return {path: self._bytes[path.name] + _bytes_below(kept_beside(path)) for path in datasets}

    def _taken_out(self, target: Path) -> Path:
        """Where it lies now, with its labels: at once, so that whoever asks for it next fetches it anew."""
        gone = Path(tempfile.mkdtemp(dir=self._folder, prefix=".", suffix=_PART))
        for path in (target, kept_beside(target)):
            if path.exists():
                path.rename(gone / path.name)
        return gone


def remove_leftovers(datasets: Path) -> None:
    """Remove what an agent before this one had not completed."""
    with suppress(FileNotFoundError):
        for part in datasets.glob(f".*{_PART}"):
            shutil.rmtree(part, ignore_errors=True)


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
