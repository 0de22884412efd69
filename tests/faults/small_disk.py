"""A disk of a few MiB, which a test fills up and makes room on again."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A folder with a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                _write_until_full(file.fileno(), bytes(size))

    def make_room(self) -> None:
        """As it was before it was filled."""
        self._filler.unlink()


def _write_until_full(descriptor: int, piece: bytes) -> None:
    try:
        while os.write(descriptor, piece) == len(piece):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextmanager
def small_disk(mib: int) -> Iterator[SmallDisk]:
    """A disk that any account may use; only root may make one."""
    folder = Path(tempfile.mkdtemp(prefix="visionmesh-disk-"))
    folder.chmod(0o755)
    try:
        options = f"size={mib}m,mode=777"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield SmallDisk(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()
