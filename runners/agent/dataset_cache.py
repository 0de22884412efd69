"""Datasets on this machine, kept for the next attempt that needs them."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path


class DatasetCache:
    """Datasets by digest, each whole or not there; shared by the attempts of this agent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, digest: str, fill: Callable[[Path], Awaitable[None]]) -> Path:
        """The folder of the dataset; `fill` fetches it into a new folder if it is not there."""
        target = self._folder / digest
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if not target.exists():
                part = self._folder / f".{digest}.part"
                await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
                part.mkdir(parents=True)
                await fill(part)
                part.rename(target)
        return target


def remove_leftovers(datasets: Path) -> None:
    """Remove what an agent before this one had not completed."""
    with suppress(FileNotFoundError):
        for part in datasets.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)
