"""The check that costs a download: every file has the digest under which it is listed."""

import tempfile
from pathlib import Path

import grpc

from visionmesh.audit._checks import Check, counted
from visionmesh.audit._history import History
from visionmesh.client import AsyncJobHandle, ProgressCallback
from visionmesh.errors import MeshError

_DAMAGED = (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.NOT_FOUND)


async def check_files(
    handle: AsyncJobHandle, history: History, on_progress: ProgressCallback | None = None
) -> Check:
    """Download each artifact, compare size and digest, and throw it away.

    `on_progress` is told the bytes done and in all, over all files.
    """
    total = sum(artifact.size_bytes for artifact in history.artifacts)
    count = counted(len(history.artifacts), "file")
    check = Check("files", f"{count}, {total / 1e6:.1f} MB, each as it was recorded")
    before = 0

    def told(done: int, _: int) -> None:
        if on_progress is not None:
            on_progress(before + done, total)

    with tempfile.TemporaryDirectory(prefix="visionmesh-audit-") as folder:
        target = Path(folder) / "file"
        for artifact in history.artifacts:
            try:
                await handle.download(artifact, target, told)
            except MeshError as error:
                if error.code not in _DAMAGED:
                    raise
                check.problems.append(f"{artifact.name}: {error.message}")
            before += artifact.size_bytes
    return check
