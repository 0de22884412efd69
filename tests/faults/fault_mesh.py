"""Schedulers and agents as processes of their own: to be killed, frozen, and asked to stop.

Several schedulers are replicas: one PostgreSQL, one store of objects, and a port of its own for each.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from visionmesh.client import AsyncClient, AsyncJobHandle
from visionmesh.shapes import write_shapes
from visionmesh.v1 import job_pb2, progress_pb2, vision_pb2

DEADLINE = 60.0
"""Seconds after which something that a test waits for has failed to come."""

FRAMEWORK = "paced_framework:Paced"
DATASET = "datasets/shapes"
_SHARED = (Path(__file__).parent, Path(__file__).parents[1] / "integration")


class Process:
    """A process that a test has started."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path) -> None:
        self._child, self.log = child, log
        self.pid = child.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._child.returncode is None

    def send(self, number: signal.Signals) -> float:
        """Send a signal, if it still runs; returns when."""
        if self._child.returncode is None:
            self._child.send_signal(number)
        return time.monotonic()

    def freeze(self) -> float:
        """SIGSTOP: it keeps its connections and says nothing more. Returns when."""
        return self.send(signal.SIGSTOP)

    def thaw(self) -> float:
        """SIGCONT. Returns when."""
        return self.send(signal.SIGCONT)

    async def kill(self) -> int:
        """SIGKILL; its exit code."""
        self.send(signal.SIGKILL)
        return await self.over()

    async def stop(self) -> int:
        """SIGTERM; its exit code once it has ended by itself."""
        self.send(signal.SIGTERM)
        return await self.over()

    async def over(self) -> int:
        """Wait for its end; its exit code."""
        async with asyncio.timeout(DEADLINE):
            return await self._child.wait()

    async def says(self, text: str, after: int = 0) -> float:
        """Wait until its log holds `text` beyond byte `after`; returns when that was seen."""
        async with asyncio.timeout(DEADLINE):
            while text not in self.log_text()[after:]:  # noqa: ASYNC110 - a file tells nobody that it has grown
                await asyncio.sleep(0.02)
        return time.monotonic()

    def log_text(self) -> str:
        """What it has written to standard error so far."""
        return self.log.read_text(errors="replace")


class FaultMesh:
    """A folder with schedulers and agents in it."""

    def __init__(self, folder: Path, replicas: int = 1) -> None:
        self.folder, self.replicas = folder, replicas
        self.client: AsyncClient
        """Resumes its watches by itself."""
        self.address = ""
        """Where schedulers are to be found: all that were ever started."""
        self.settings: dict[str, object] = {}
        """Of every scheduler, by the names of their variables."""
        self.schedulers: dict[int, Process] = {}
        """The newest process of each replica."""
        self.prefixes: dict[str, tuple[str, ...]] = {}
        """What stands before a command, by the name of its process: "scheduler", or an agent's id."""
        self._ports = [0] * replicas
        self._processes: list[Process] = []

    @property
    def _port(self) -> int:
        return self._ports[0]

    async def scheduler(self, replica: int = 0, **settings: object) -> Process:
        """Start a scheduler, on the port of the one before it; `settings` beside those of the mesh."""
        reading, writing = os.pipe()
        number = f"-{replica}" if replica else ""
        process = await self._start(
            f"scheduler{number}",
            ["scheduler", "--port", str(self._ports[replica]), "--ready-fd", str(writing),
             "--data-dir", str(self.folder / f"data{number}")],
            {name.upper(): str(value) for name, value in (self._shared() | settings).items()},
            writing,
        )  # fmt: skip
        os.close(writing)
        with os.fdopen(reading) as ready:
            line = await asyncio.to_thread(ready.readline)
        address = json.loads(line or "{}").get("address", "")
        assert address, process.log_text()
        self._ports[replica] = int(address.rpartition(":")[2])
        known = ",".join(f"127.0.0.1:{port}" for port in self._ports if port)
        self.address = f"ipv4:{known}" if "," in known else address
        self.schedulers[replica] = process
        return process

    def _shared(self) -> dict[str, object]:
        """The settings, with the stores where replicas share them."""
        if self.replicas == 1:
            return self.settings
        stores = {f"{name}_url": (self.folder / "data" / name).as_uri() for name in ("datasets", "artifacts")}
        return stores | self.settings

    async def agent(self, runner_id: str, framework: str = FRAMEWORK, *flags: str) -> Process:
        """Start an agent, and wait until a scheduler knows it."""
        process = await self._start(
            runner_id,
            ["runners.agent", "--scheduler", self.address, "--framework", framework,
             "--runner-id", runner_id, "--work-dir", str(self.folder / runner_id), *flags],
            {"TMPDIR": str(self.folder)},
        )  # fmt: skip
        await process.says("registered")
        return process

    def leftovers(self) -> list[int]:
        """What agents have started, directly or not, and runs still."""
        return [process.pid for process in psutil.process_iter() if self._is_of_agents(process)]

    def _is_of_agents(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("TMPDIR") == str(self.folder)
        except psutil.Error:  # it has ended, or is not ours
            return False

    async def _start(
        self, name: str, arguments: list[str], variables: dict[str, str], *descriptors: int
    ) -> Process:
        log = self.folder / f"{name}-{len(self._processes)}.log"
        path = os.pathsep.join([*map(str, _SHARED), os.environ.get("PYTHONPATH", "")])
        with log.open("w") as stderr:
            child = await asyncio.create_subprocess_exec(
                *self.prefixes.get(name, ()), sys.executable, "-m", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                env={**os.environ, "PYTHONPATH": path, **variables}, pass_fds=descriptors,
            )  # fmt: skip
        process = Process(child, log)
        self._processes.append(process)
        return process

    async def heartbeat(self, runner_id: str) -> None:
        """Wait for the next heartbeat of a runner: its lease is as fresh as can be."""
        before = (await self.client.runner(runner_id)).heartbeat_time
        async with asyncio.timeout(DEADLINE):
            while (await self.client.runner(runner_id)).heartbeat_time == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Kill everything that still runs."""
        for process in self._processes:
            process.thaw()
            await process.kill()

    async def gone(self, pid: int) -> None:
        """Wait until a process that is not the test's own child has ended."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                async with asyncio.timeout(DEADLINE):
                    ended, loop = asyncio.Event(), asyncio.get_running_loop()
                    loop.add_reader(descriptor, ended.set)
                    await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)


@asynccontextmanager
async def fault_mesh(
    folder: Path, mesh: FaultMesh | None = None, *, replicas: int = 1, **settings: object
) -> AsyncIterator[tuple[FaultMesh, Process]]:
    """A mesh with its schedulers, of which the first is told, a dataset, and no agent yet.

    `mesh` if it is to be one of another kind. Several replicas need a `database_url` among their settings.
    """
    mesh = mesh or FaultMesh(folder, replicas)
    mesh.settings = settings
    try:
        await mesh.scheduler()
        await asyncio.gather(*(mesh.scheduler(replica) for replica in range(1, mesh.replicas)))
        write_shapes(folder / "shapes", train=6, val=4, test=0, size=32)
        async with AsyncClient(mesh.address) as mesh.client:
            await mesh.client.create_dataset(folder / "shapes", "shapes")
            yield mesh, mesh.schedulers[0]
    finally:
        await mesh.close()


def training(
    model: str = "paced",
    *,
    epochs: int = 5,
    hold_after: int = 0,
    epoch_ms: int = 0,
    checkpoint_kib: int = 0,
    **fields: int,
) -> job_pb2.Job:
    """A job of the paced framework, tried again at once when it fails; `fields` go to its spec.

    After epoch `hold_after` its first attempt waits to be stopped.
    """
    spec = job_pb2.TrainSpec(model=model, dataset=DATASET, epochs=epochs, **fields)  # type: ignore[arg-type]
    spec.hyperparameters.update(
        {"hold_after": hold_after, "epoch_ms": epoch_ms, "checkpoint_kib": checkpoint_kib}
    )
    job = job_pb2.Job(train=spec, framework="paced")
    job.retry_policy.max_attempts = 3
    job.retry_policy.initial_backoff.FromMilliseconds(10)
    return job


class Follower:
    """Watches a job all its life as a client does, and keeps what it was told, and when."""

    def __init__(self, job: AsyncJobHandle, patience: float = DEADLINE) -> None:
        """Whatever it waits for has `patience` seconds to come."""
        self.job, self._patience = job, patience
        self.events: list[progress_pb2.JobEvent] = []
        self.times: list[float] = []
        self._news = asyncio.Condition()
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.job.watch():
            async with self._news:
                self.events.append(event)
                self.times.append(time.monotonic())
                self._news.notify_all()

    async def sees(self, seen: Callable[[progress_pb2.JobEvent], bool]) -> progress_pb2.JobEvent:
        """The first event of which `seen` says yes, as soon as it is there."""
        async with asyncio.timeout(self._patience), self._news:
            while True:
                for event in self.events:
                    if seen(event):
                        return event
                if self._task.done():
                    raise AssertionError(f"the job ended without it: {self.events}")
                await self._news.wait()

    async def sees_epoch(self, number: int, attempt: int = 1) -> progress_pb2.JobEvent:
        """That epoch of that attempt."""
        return await self.sees(lambda e: e.attempt == attempt and e.update.epoch_completed.epoch == number)

    async def sees_checkpoint(self, epoch: int, attempt: int = 1) -> progress_pb2.JobEvent:
        """The announcement of the checkpoint of that epoch."""
        return await self.sees(
            lambda e: (
                e.attempt == attempt
                and e.update.checkpoint_saved.epoch == epoch
                and e.update.checkpoint_saved.resumable
            )
        )

    async def end(self) -> job_pb2.Job:
        """The job when it has ended, and everything of it is told without gap or repeat."""
        async with asyncio.timeout(self._patience):
            await self._task
        told = [event.sequence for event in self.events]
        assert told == list(range(1, len(told) + 1)), told
        return await self.job.get()

    @property
    def has_ended(self) -> bool:
        """Whether the job has, as far as it was told."""
        return self._task.done()

    async def ended(self) -> None:
        """Wait until it has. Raises MeshError if the watch could not go on."""
        await asyncio.shield(self._task)

    async def close(self) -> None:
        """Stop watching."""
        self._task.cancel()
        await asyncio.wait([self._task])  # what it ended with was for those who waited for it

    @property
    def epochs(self) -> dict[int, list[int]]:
        """Epochs told, by attempt."""
        told: dict[int, list[int]] = {}
        for event in self.events:
            if event.update.HasField("epoch_completed"):
                told.setdefault(event.attempt, []).append(event.update.epoch_completed.epoch)
        return told

    @property
    def lines(self) -> list[str]:
        """Log lines told."""
        return [e.update.log_line.message for e in self.events if e.update.HasField("log_line")]

    @property
    def endings(self) -> list[tuple[int, str, str]]:
        """(attempt, outcome, cause) of each end of an attempt that was told."""
        return [
            (
                event.attempt,
                vision_pb2.AttemptState.Name(ended.outcome).removeprefix("ATTEMPT_STATE_"),
                vision_pb2.AttemptCause.Name(ended.cause).removeprefix("ATTEMPT_CAUSE_"),
            )
            for event in self.events
            if (ended := event.update.attempt_ended).outcome
        ]


@asynccontextmanager
async def followed(mesh: FaultMesh, job: job_pb2.Job, patience: float = DEADLINE) -> AsyncIterator[Follower]:
    """Creates a job and watches it."""
    follower = Follower(await mesh.client.create_job(job), patience)
    try:
        yield follower
    finally:
        await follower.close()


def state(job: job_pb2.Job) -> str:
    """The name of a job's state."""
    return vision_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
