"""The agent: takes jobs from the scheduler, as many at a time as it has slots."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO

import structlog

import visionmesh
from runners.agent import weights
from runners.agent.attempt import Attempt, Means
from runners.agent.bucket_transfers import Buckets
from runners.agent.capacity import capacity
from runners.agent.control import Control, RunnerRefused
from runners.agent.dataset_cache import DatasetCache, remove_leftovers
from runners.agent.ending import Stop
from runners.agent.gpus import Gpus
from runners.agent.guard import Guardians
from runners.agent.job_environment import base_environment
from runners.agent.job_process import LaunchFailed
from runners.agent.launcher import Launcher, SpawnLauncher, ZygoteLauncher
from runners.agent.remains import Remains, found
from runners.agent.settings import AgentSettings
from runners.agent.streams import Journals
from runners.agent.transport import PATIENT_PING_SECONDS, open_channel
from runners.agent.weights import PublishedWeights
from runners.framework import FrameworkNotFound
from runners.process.spawned import framework_of
from visionmesh.v1 import progress_pb2_grpc, result_pb2_grpc, runner_pb2, runner_pb2_grpc, vision_pb2

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

_TELL_SECONDS = 5.0
_TELL_NOBODY_SECONDS = 1.0
_Key = tuple[str, int]

log = structlog.get_logger(__name__)


class WorkDirInUse(Exception):
    """Another agent works in that folder."""


class Agent:
    """A runner of one framework. Make it inside a running event loop."""

    def __init__(self, settings: AgentSettings) -> None:
        """Raises FrameworkNotFound."""
        self._settings = settings
        framework = framework_of(settings.framework)
        self._manifest = framework.manifest()
        self._weights: PublishedWeights | None = None
        if not self._manifest.fetches_pretrained:
            self._manifest.fetches_pretrained = settings.pretrained and framework.can_fetch_weights()
            self._weights = PublishedWeights(settings, self._manifest, os.environ)
        self._incarnation = secrets.token_hex(16)
        self._gpus = Gpus()
        self._attempts: dict[_Key, tuple[Attempt | Remains, asyncio.Task[None]]] = {}
        self._control = Control(settings.scheduler, self._register, self)
        self._launcher: Launcher = (
            ZygoteLauncher(settings.framework, base_environment())
            if settings.zygote
            else SpawnLauncher(settings.framework)
        )
        self._guardians = Guardians()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._took_one = False

    def stop(self) -> None:
        """End gracefully: job processes stop, checkpoints are kept, attempts handed back; twice: at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> int:
        """Take jobs until stopped, or, with `once`, until the first is over; the exit code."""
        try:
            with _locked(self._settings.folder) as folder:
                await self._launcher.start()
                return await self._serve(folder)
        except (LaunchFailed, WorkDirInUse) as error:
            log.error("agent cannot start", why=str(error))
            return EXIT_FAILED
        finally:
            await self._launcher.close()

    async def _serve(self, folder: Path) -> int:
        self._guardians.start()
        channel = open_channel(self._settings.scheduler, PATIENT_PING_SECONDS)
        self._means = Means(
            runners=runner_pb2_grpc.RunnerServiceStub(channel),
            buckets=Buckets(),
            progress=progress_pb2_grpc.ProgressServiceStub(channel),
            results=result_pb2_grpc.ResultServiceStub(channel),
            launcher=self._launcher,
            guardians=self._guardians,
            datasets=DatasetCache(folder / "datasets", self._settings.dataset_cache_bytes),
            weights=self._weights,
            gpus=self._gpus,
            folder=folder / "attempts",
            journals=Journals(folder / "journals", self._settings.journal_mib * 1024 * 1024),
        )
        for remains in found(self._means):
            self._follow((remains.ref.job, remains.ref.attempt), remains)
        control = asyncio.create_task(self._control.run())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({control, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if control.done():
                control.result()
            await self._drain()
            return EXIT_OK
        except RunnerRefused as refused:
            log.error("runner refused", why=str(refused))
            return EXIT_FAILED
        finally:
            for attempt, _ in list(self._attempts.values()):
                attempt.leave("the agent ends")
            await self._over()
            for task in (control, stopping):
                task.cancel()
            await asyncio.gather(control, stopping, return_exceptions=True)
            await self._guardians.close()
            await self._means.buckets.close()
            await channel.close()

    async def _drain(self) -> None:
        """Hand back what is under way; a scheduler that is away is not waited for."""
        self._control.drain()
        grace = timedelta(seconds=self._settings.drain_grace_seconds)
        for attempt, _ in list(self._attempts.values()):
            attempt.cancel(Stop(vision_pb2.ATTEMPT_CAUSE_DRAINED, grace, "The runner is being stopped."))
        tell = _TELL_SECONDS if self._control.connected.is_set() else _TELL_NOBODY_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds() + tell):
                over, hurry = asyncio.create_task(self._over()), asyncio.create_task(self._hurry.wait())
                try:
                    await asyncio.wait({over, hurry}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    over.cancel()
                    hurry.cancel()

    async def _over(self) -> None:
        """Wait until no attempt is left."""
        tasks = [task for _, task in self._attempts.values()]
        if tasks:
            await asyncio.wait(tasks)

    def _register(self) -> runner_pb2.Register:
        return runner_pb2.Register(
            runner_id=self._settings.runner_id,
            incarnation=self._incarnation,
            version=visionmesh.__version__,
            hostname=socket.gethostname(),
            capacity=capacity(self._settings.slots, self._gpus),
            labels=self._settings.labels,
            manifest=self._manifest,
            attempts=self.attempts(),
        )

    def attempts(self) -> list[runner_pb2.AttemptRef]:
        """Those that are not over."""
        return [attempt.ref for attempt, _ in self._attempts.values() if not attempt.told]

    def assign(self, assignment: runner_pb2.Assignment) -> str:
        """Begin an attempt; why not, or nothing."""
        key = (assignment.job.name, assignment.attempt)
        if key in self._attempts:
            # Asked again after a reconnect. Or another under the number of one that was given up: the
            # scheduler's database was restored.
            return "an attempt of that number is being ended" if self._attempts[key][0].is_dropped else ""
        if self._stopping.is_set() or (self._settings.once and self._took_one):
            return "the runner is about to stop"
        for ref in self.attempts():
            if ref.job == key[0]:
                self.kill([ref], f"attempt {key[1]} begins")
        if sum(attempt.occupies_slot for attempt, _ in self._attempts.values()) >= self._settings.slots:
            return f"all {self._settings.slots} slots are taken"
        self._follow(key, Attempt(assignment, self._means))
        self._took_one = True
        if self._settings.once:
            self._control.drain()
        return ""

    def _follow(self, key: _Key, attempt: Attempt | Remains) -> None:
        task = asyncio.create_task(attempt.run())
        self._attempts[key] = (attempt, task)
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: _Key) -> None:
        attempt, _ = self._attempts.pop(key)
        if self._settings.once and isinstance(attempt, Attempt):
            self._stopping.set()
        elif not attempt.told and not self._stopping.is_set():
            self._control.reconnect()  # the scheduler must hear that it is gone

    def cancel(self, cancel: runner_pb2.CancelAttempt) -> None:
        """Stop an attempt, gracefully."""
        found = self._attempts.get((cancel.job, cancel.attempt))
        if found is not None:
            found[0].cancel(
                Stop(cancel.cause, cancel.grace_period.ToTimedelta(), _WHY.get(cancel.cause, _CANCELLED))
            )

    def kill(self, refs: Iterable[runner_pb2.AttemptRef], why: str) -> None:
        """End attempts at once; those that are not here are passed over."""
        for ref in refs:
            found = self._attempts.get((ref.job, ref.attempt))
            if found is not None:
                found[0].kill(why)


_CANCELLED = "The job was cancelled."
_WHY = {
    vision_pb2.ATTEMPT_CAUSE_DRAINED: "The runner is being drained.",
    vision_pb2.ATTEMPT_CAUSE_PREEMPTED: "A more urgent job needs the place.",
    vision_pb2.ATTEMPT_CAUSE_TIMEOUT: "The run took longer than its run_timeout.",
}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """`folder`, with what an earlier agent left in it cleared away. Raises WorkDirInUse."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        _lock(lock, folder)
        shutil.rmtree(folder / "attempts", ignore_errors=True)
        remove_leftovers(folder / "datasets")
        weights.remove_leftovers(folder / "weights")
        yield folder


def _lock(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        text = (
            f"Another agent works in {folder}. Stop it, or give each a --runner-id or --work-dir of its own."
        )
        raise WorkDirInUse(text) from None


async def serve(settings: AgentSettings) -> int:
    """Run an agent until SIGTERM or SIGINT; the exit code."""
    try:
        agent = Agent(settings)
    except FrameworkNotFound as error:
        log.error("agent cannot start", why=str(error))
        return EXIT_USAGE
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    return await agent.run()
