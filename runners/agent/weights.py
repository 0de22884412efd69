"""Published weights: fetched by a process of the framework, kept for the next attempt."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.rpc import code_pb2

from runners.agent import ending
from runners.agent.ending import Ending
from runners.agent.inputs import InputFailed
from runners.agent.job_environment import base_environment
from runners.agent.settings import AgentSettings
from runners.process import errors
from runners.process.download import DIGESTS_VARIABLE
from runners.process.spawned import PARENT_VARIABLE
from runners.process.weights import MIRROR_VARIABLE
from visionmesh.errors import Reason
from visionmesh.v1 import runner_pb2, vision_pb2

FETCH_SECONDS = 3600.0
"""Longest time that a fetch may take."""

_NETWORK = frozenset(
    {
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "HF_ENDPOINT",
    }
)  # fmt: skip
"""What a process needs to get out, which job processes do not have."""


class PublishedWeights:
    """Published weights of one framework by model, each whole or not there; shared by an agent's attempts."""

    def __init__(
        self, settings: AgentSettings, manifest: runner_pb2.FrameworkManifest, environ: Mapping[str, str]
    ) -> None:
        """`manifest` says for which models there are any."""
        self._framework, self._allowed = settings.framework, manifest.fetches_pretrained
        self._folder = settings.folder / "weights" / (manifest.version or "unknown")
        self._known = {model.name for model in manifest.models if model.pretrained}
        network = {name: value for name, value in environ.items() if name in _NETWORK}
        self._environ = {**base_environment(environ), **network, PARENT_VARIABLE: str(os.getpid())}
        if settings.weights_mirror:
            self._environ[MIRROR_VARIABLE] = settings.weights_mirror
        if settings.weights_digests is not None:
            self._environ[DIGESTS_VARIABLE] = str(settings.weights_digests.resolve())
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, model: str) -> Path:
        """The checkpoint file. Raises InputFailed."""
        if model not in self._known:
            text = (
                f"Nobody has published weights for the model {model!r}. Name a checkpoint, or another model."
            )
            raise InputFailed(ending.user_error(Reason.PRETRAINED_UNAVAILABLE, text))
        if not self._allowed:
            text = (
                f"This runner is not allowed to fetch the published weights of {model!r}. Name a checkpoint, "
                "or start the runner with --pretrained."
            )
            raise InputFailed(ending.user_error(Reason.PRETRAINED_UNAVAILABLE, text))
        async with self._locks.setdefault(model, asyncio.Lock()):
            return self._kept(model) or await self._fetch(model)

    def _kept(self, model: str) -> Path | None:
        return next(iter(sorted((self._folder / model).glob("*"))), None)

    async def _fetch(self, model: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self._folder) as scratch:
            told = await self._ask(model, scratch)
            if "path" not in told:
                raise InputFailed(_ending(told))
            return await asyncio.to_thread(_keep, Path(told["path"]), self._folder / model)

    async def _ask(self, model: str, folder: str) -> dict[str, Any]:
        """What the fetching process says in the end."""
        process = subprocess.Popen(  # noqa: ASYNC220 - an exec, done in a millisecond
            [sys.executable, "-m", "runners.process.weights", self._framework, model, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**self._environ, "HOME": folder, "XDG_CACHE_HOME": folder},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                said, _ = await asyncio.to_thread(process.communicate)
        except TimeoutError:
            return {"unreachable": f"It took longer than {FETCH_SECONDS:.0f} s."}
        finally:
            process.kill()  # a cancelled attempt does not wait for it
        lines = said.decode(errors="replace").strip().splitlines()
        try:
            return dict(json.loads(lines[-1] if lines else ""))
        except (ValueError, TypeError):
            return {"unreachable": f"The fetching process ended with {process.returncode} and said nothing."}


def remove_leftovers(folder: Path) -> None:
    """Remove what an agent before this one had not completed."""
    for part in folder.glob("*/.part-*"):
        shutil.rmtree(part, ignore_errors=True)


def _keep(file: Path, folder: Path) -> Path:
    """Move `file` into `folder`, whole on disk, where nothing changes it."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.chmod(0o444)
    folder.mkdir(exist_ok=True)
    return file.rename(folder / file.name)


def _ending(told: Mapping[str, Any]) -> Ending:
    """How an attempt ends that did not get its weights."""
    if "refused" in told:
        code = int(told.get("code", code_pb2.INVALID_ARGUMENT))
        error = errors.status(code, str(told.get("reason")), str(told["refused"]))
        return Ending(vision_pb2.ATTEMPT_STATE_FAILED, vision_pb2.ATTEMPT_CAUSE_USER_ERROR, error)
    return ending.infrastructure(f"Published weights cannot be fetched. {told.get('unreachable', '')}")
