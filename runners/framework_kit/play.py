"""Runs one job of a framework, as an agent does, and keeps all that there is to see of it."""

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runners.agent.guardian import kill_all, members
from runners.agent.job_environment import base_environment
from runners.agent.job_process import JobProcess
from runners.agent.launcher import Launcher, SpawnLauncher, ZygoteLauncher
from runners.framework_kit import watched
from runners.process.environment import JobEnvironment
from runners.process.framing import Decoder, FramingError
from visionmesh.v1 import process_pb2, progress_pb2, vision_pb2

LINGER_SECONDS = 30.0
"""Time that a process has to end after its last event."""

_MARK = "FRAMEWORK_KIT_MARK"
_KEPT_CHARACTERS = 2000


@dataclass
class Kept:
    """A file as it was when it was announced."""

    file: process_pb2.OutputFile
    path: Path
    """A second link to it, as the agent makes one until the file is stored."""

    sha256: str = ""
    """When it was announced; empty if it was not there, or lay elsewhere."""


@dataclass
class Played:
    """A job that is over."""

    environment: JobEnvironment
    events: list[process_pb2.ProcessEvent] = field(default_factory=list)
    files: list[Kept] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the observer inside the process has written down."""

    output: str = ""
    """What it printed."""

    exit_code: int | None = None
    lingered: bool = False
    """It had to be killed after its last event."""

    timed_out: bool = False
    strays: list[str] = field(default_factory=list)
    """Command lines of processes that were left."""

    written: list[str] = field(default_factory=list)
    """Files that were changed or left where none should be."""

    @property
    def end(self) -> progress_pb2.AttemptEnded | None:
        """How it says that it ended."""
        return self.events[-1].ended if self.events and self.events[-1].HasField("ended") else None

    @property
    def succeeded(self) -> bool:
        """Whether it says that all went well."""
        return self.end is not None and self.end.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED

    def updates(self, name: str) -> list[Any]:
        """Progress of one kind, in order."""
        told = (event.progress for event in self.events if event.HasField("progress"))
        return [getattr(update, name) for update in told if update.HasField(name)]  # type: ignore[arg-type]

    def results(self, name: str) -> list[Any]:
        """Results of one kind, in order."""
        told = (event.result for event in self.events if event.HasField("result"))
        return [getattr(result, name) for result in told if result.HasField(name)]  # type: ignore[arg-type]

    def story(self) -> str:
        """How it ended, for people."""
        if self.timed_out:
            return "it did not end in time and was killed"
        if self.end is None:
            words = self.output.strip().splitlines()
            last = f"; it printed: {words[-1]}" if words else ""
            return f"it ended without a word, exit code {self.exit_code}{last}"
        outcome = vision_pb2.AttemptState.Name(self.end.outcome).removeprefix("ATTEMPT_STATE_")
        return f"{outcome}: {self.end.error.message or 'no error'}"


class Player:
    """Starts job processes of one framework, by a zygote or each anew."""

    def __init__(self, framework: str, folder: Path, job_seconds: float) -> None:
        """`folder` is the kit's own."""
        self._folder, self._job_seconds = folder, job_seconds
        self._home, self._count = folder / "home", 0
        self._home.mkdir(parents=True)
        (folder / "cache").mkdir()
        self._base = {
            **base_environment(),
            "HOME": str(self._home),
            "XDG_CACHE_HOME": str(folder / "cache"),
            watched.SUBJECT_VARIABLE: framework,
        }
        zygote_tmp = folder / "zygote-tmp"
        zygote_tmp.mkdir()
        self._zygote = ZygoteLauncher(watched.NAME, {**self._base, "TMPDIR": str(zygote_tmp)})
        self._anew = SpawnLauncher(watched.NAME)

    async def preload(self) -> None:
        """Start the zygote. Raises LaunchFailed."""
        await self._zygote.start()

    async def close(self) -> None:
        """End the zygote."""
        await self._zygote.close()

    async def play(
        self, environment: JobEnvironment, inputs: list[Path], *, forked: bool, holds: bool = False
    ) -> Played:
        """Run a job to its end; with `holds` a training is stopped in its second epoch.

        `inputs` are files and folders that it must leave alone. Raises LaunchFailed.
        """
        self._count += 1
        output, tmp = environment.output_path, self._folder / f"tmp-{self._count}"
        output.mkdir(parents=True, exist_ok=True)
        tmp.mkdir()
        played, facts = Played(environment), self._folder / f"facts-{self._count}.json"
        mark = secrets.token_hex(16)
        environ = {
            **self._base,
            **environment.to_environ(),
            "TMPDIR": str(tmp),
            _MARK: mark,
            watched.FACTS_VARIABLE: str(facts),
            **({watched.STOP_VARIABLE: "1"} if holds else {}),
        }
        watch = [self._home, *inputs]
        before = _digests(watch)
        launcher: Launcher = self._zygote if forked else self._anew
        process = await launcher.launch(environ, output)
        try:
            await self._follow(process, played, f"{_MARK}={mark}")
        finally:
            kill_all(process.pid, f"{_MARK}={mark}".encode())
            process.close()
        with suppress(OSError, ValueError):
            played.facts = json.loads(facts.read_text())
        after = _digests(watch)
        played.written = sorted(path for path in before | after if before.get(path) != after.get(path))
        played.written += _digests([tmp])
        return played

    async def _follow(self, process: JobProcess, played: Played, mark: str) -> None:
        events = asyncio.create_task(_hear(process, played))
        output = asyncio.create_task(process.output.read())
        process.start()
        try:
            async with asyncio.timeout(self._job_seconds):
                played.exit_code = await asyncio.shield(process.exited)
        except TimeoutError:
            played.timed_out = True
        played.strays = [_command(pid) for pid in members(process.pid, mark.encode()) if pid != process.pid]
        kill_all(process.pid, mark.encode())  # else they may keep the pipes open
        await events
        played.output = (await output).decode(errors="replace")[-_KEPT_CHARACTERS:]


async def _hear(process: JobProcess, played: Played) -> None:
    decoder, loop = Decoder(process_pb2.ProcessEvent), asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def too_late() -> None:
        played.lingered = True
        process.kill()

    with suppress(FramingError):  # then it has said no last word either
        while data := await process.events.read(65536):
            for event in decoder.feed(data):
                played.events.append(event)
                if event.HasField("file"):
                    played.files.append(_keep(event.file, played.environment.output_path, len(played.files)))
                elif event.progress.log_line.message == watched.HELD:
                    process.stop("The kit stops it.")
                elif event.HasField("ended"):
                    timers.append(loop.call_later(LINGER_SECONDS, too_late))
    for timer in timers:
        timer.cancel()


def _keep(file: process_pb2.OutputFile, output: Path, number: int) -> Kept:
    source, snapshots = output / file.path, output.with_name(f"{output.name}-announced")
    snapshots.mkdir(exist_ok=True)
    kept = Kept(file, snapshots / f"{number}{source.suffix}")
    if source.resolve().is_relative_to(output.resolve()) and source.is_file():
        os.link(source, kept.path)
        kept.sha256 = digest(kept.path)
    return kept


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(places: list[Path]) -> dict[str, str]:
    """Each file at or below `places` by its path."""
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return {str(path): digest(path) for path in files if path.is_file()}


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}"
    return b" ".join(words).decode(errors="replace")[:200].strip() or f"process {pid}"
