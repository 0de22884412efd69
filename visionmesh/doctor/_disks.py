"""Room on disks and in shared memory."""

import shutil
from pathlib import Path

from visionmesh.doctor._finding import Finding, ok, problem, warning

_GIB = 2**30
_SCARCE_BYTES = 5 * _GIB
"""A training keeps checkpoints, plots and a copy of its dataset."""

_TOO_LITTLE_BYTES = _GIB
_SHARED_BYTES = 512 * 2**20
"""What the data loader's processes pass images through; containers often have 64 MiB."""


def room(check: str, folder: Path) -> Finding:
    """There is room where `folder` is, or will be."""
    place = existing(folder)
    usage = shutil.disk_usage(place)
    seen = f"{_size(usage.free)} of {_size(usage.total)} free at {folder}"
    if usage.free < _TOO_LITTLE_BYTES:
        return problem(check, seen, "free some: a training needs a few GiB")
    if usage.free < _SCARCE_BYTES:
        return warning(check, seen, "free some: a training needs a few GiB")
    return ok(check, seen)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:  # noqa: S108 - that is its name
    """Data loaders have shared memory to pass images through."""
    if not folder.is_dir():
        return ok("shared memory", f"{folder} is not used on this system")
    usage = shutil.disk_usage(folder)
    seen = f"{_size(usage.free)} of {_size(usage.total)} free at {folder}"
    if usage.free < _SHARED_BYTES:
        advice = "data loaders will crash: give a container --shm-size=2g, or train with --set workers=0"
        return warning("shared memory", seen, advice)
    return ok("shared memory", seen)


def existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB" if size_bytes >= _GIB else f"{size_bytes / 2**20:.0f} MiB"
