"""Kills what it can while many small jobs run, then checks that nothing is lost, doubled or left behind.

    python tests/faults/soak.py --seconds 300 --seed 7 --database postgresql

Every random choice follows from the seed, which is printed: a run that fails can be begun again.
On PostgreSQL there are two schedulers. Without --database both kinds have their turn.
"""

import argparse
import asyncio
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]

from fault_mesh import FRAMEWORK, FaultMesh, Follower, Process, fault_mesh, state, training
from history_check import Evidence, StateFollower, evidence, problems
from paced_framework import NOTES
from postgres_server import INSTALL, programs, serving

from visionmesh.client import AsyncClient, AsyncJobHandle
from visionmesh.errors import Unavailable
from visionmesh.v1 import job_pb2

AGENTS = 3
REPLICAS = {"sqlite": 1, "postgresql": 2}
JOBS_AT_A_TIME = 6
EPOCHS = 8
PAUSE = (2.0, 5.0)
"""Shortest and longest time between two faults, in seconds."""

LEAST_FAULTS = 3
"""However slow the machine is."""

LEASE = 3.0
END = 60.0
"""Seconds after the last fault in which every job has to end."""

SETTINGS: dict[str, object] = {"lease_seconds": LEASE, "heartbeat_seconds": 0.5}
AGENT_FLAGS = ("--log-level", "DEBUG", "--log-format", "json")


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    replicas: int
    faults: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    events: int = 0
    attempts: int = 0
    acknowledged: int = 0
    """Messages, by the logs of the agents."""
    problems: list[str] = field(default_factory=list)
    """What the history checker found; empty if every promise was kept."""
    deadlocks: int = 0
    """Transactions that PostgreSQL ended so that others could go on; they were tried again."""
    settle_seconds: float = 0.0
    """From the last fault to the end of the last job."""

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.jobs.items()))
        lines = [
            f"seed {self.seed}, {self.replicas} scheduler{'s' if self.replicas > 1 else ''}",
            f"faults    {self.faults.total()}: {faults or 'none'}",
            f"jobs      {states}; {self.attempts} attempts, {self.events} events, "
            f"{self.acknowledged} messages acknowledged",
            f"settled   {self.settle_seconds:.1f} s after the last fault; {self.deadlocks} deadlocks",
            f"problems  {len(self.problems)} (lost, doubled, completed twice, orphaned, never ended)",
        ]
        return "\n".join(lines + [f"  {problem}" for problem in self.problems])


class Soak:
    """One run."""

    def __init__(self, mesh: FaultMesh, seed: int, pause: tuple[float, float]) -> None:
        self._mesh, self._between = mesh, pause
        self._agents: dict[str, Process] = {}
        self._agent_logs: list[Path] = []
        self._followers: list[Follower] = []
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.outcome = Outcome(seed, len(mesh.schedulers))

    async def run(self, seconds: float) -> Outcome:
        """Faults under load for so many seconds, then peace, then the checks."""
        (self._mesh.folder / NOTES).mkdir()
        self._states = StateFollower(self._mesh.client)
        await asyncio.gather(*(self._start_agent(f"agent-{number}") for number in range(AGENTS)))
        loading = asyncio.create_task(self._load())
        try:
            await self._break_things(seconds)
        finally:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
        await self._settle()
        await self._check()
        await self._leave()
        return self.outcome

    async def _start_agent(self, name: str) -> None:
        self._agents[name] = await self._mesh.agent(name, FRAMEWORK, *AGENT_FLAGS)
        self._agent_logs.append(self._agents[name].log)

    async def _load(self) -> None:
        """Keep some jobs under way; some wait for the one before."""
        while True:
            running = [follower for follower in self._followers if not follower.has_ended]
            for _ in range(JOBS_AT_A_TIME - len(running)):
                job = training(epochs=EPOCHS, epoch_ms=self._random.randint(20, 200), checkpoint_period=2)
                job.retry_policy.max_attempts = 100  # what is killed is no fault of its own
                if self._followers and self._random.random() < 0.2:
                    job.depends_on.append(self._followers[-1].job.name)
                self._followers.append(Follower(await self._submitted(job)))
            await asyncio.sleep(0.2)

    async def _submitted(self, job: job_pb2.Job) -> AsyncJobHandle:
        """Create a job, however often the scheduler is killed meanwhile; the request id makes it one."""
        request_id = f"soak-{len(self._followers)}"
        while True:
            with suppress(Unavailable):
                return await self._mesh.client.create_job(job, request_id)

    async def _break_things(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        faults: list[Callable[[], Awaitable[None]]] = [
            self._kill_scheduler,
            self._kill_scheduler,
            self._stop_scheduler,
            self._freeze_scheduler,
            self._kill_agent,
            self._kill_agent,
            self._kill_job_process,
            self._kill_job_process,
            self._freeze_agent,
            self._stop_agent,
        ]
        if self.outcome.replicas > 1:
            faults.append(self._kill_all_schedulers)
        while time.monotonic() < until or self.outcome.faults.total() < LEAST_FAULTS:
            await asyncio.sleep(self._random.uniform(*self._between))
            fault = self._random.choice(faults)
            self.outcome.faults[fault.__name__.strip("_").replace("_", " ")] += 1
            await fault()

    async def _kill_scheduler(self) -> None:
        replica = self._some_replica()
        await self._mesh.schedulers[replica].kill()
        await self._pause()
        await self._mesh.scheduler(replica)

    async def _kill_all_schedulers(self) -> None:
        for process in self._mesh.schedulers.values():
            await process.kill()
        await self._pause()
        for replica in self._mesh.schedulers:
            await self._mesh.scheduler(replica)

    async def _stop_scheduler(self) -> None:
        """As a planned restart does."""
        replica = self._some_replica()
        await self._mesh.schedulers[replica].stop()
        await self._pause()
        await self._mesh.scheduler(replica)

    async def _freeze_scheduler(self) -> None:
        """Less and more than a lease."""
        process = self._mesh.schedulers[self._some_replica()]
        process.freeze()
        await asyncio.sleep(self._random.uniform(0.5, 2 * LEASE))
        process.thaw()

    async def _kill_agent(self) -> None:
        name = self._some_agent()
        await self._agents[name].kill()
        await self._pause()
        await self._start_agent(name)

    async def _stop_agent(self) -> None:
        """As a planned shutdown does."""
        name = self._some_agent()
        await self._agents[name].stop()
        await self._pause()
        await self._start_agent(name)

    async def _freeze_agent(self) -> None:
        """Longer than its lease: its jobs run elsewhere when it comes back."""
        agent = self._agents[self._some_agent()]
        agent.freeze()
        await asyncio.sleep(LEASE + self._random.uniform(0.5, 2.0))
        agent.thaw()

    async def _kill_job_process(self) -> None:
        processes = job_processes(self._followers)
        if processes:
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(processes), signal.SIGKILL)

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.uniform(0, 1.5))

    def _some_agent(self) -> str:
        return self._random.choice(sorted(self._agents))

    def _some_replica(self) -> int:
        return self._random.choice(sorted(self._mesh.schedulers))

    async def _settle(self) -> None:
        """Wait until every job has ended; then nothing of one may run any more."""
        began = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(END):
                await asyncio.gather(*(follower.ended() for follower in self._followers))
        self.outcome.settle_seconds = time.monotonic() - began
        left = await _still(lambda: job_processes(self._followers), LEASE)
        if left:
            self.outcome.problems.append(f"orphaned: {len(left)} job processes run still")

    async def _check(self) -> None:
        known = evidence(self._mesh.folder, self._agent_logs)
        self.outcome.acknowledged = sum(known.acknowledged.values())
        async with AsyncClient(self._mesh.address) as reader:
            jobs = [await self._checked(reader, follower, known) for follower in self._followers]
        behind = await self._states.behind(jobs, patience=5)
        self.outcome.problems += [f"{name}: a watcher of states was not told its last" for name in behind]
        await self._states.close()

    async def _checked(self, reader: AsyncClient, follower: Follower, known: Evidence) -> job_pb2.Job:
        job = await reader.job(follower.job.name).get()
        self.outcome.jobs[state(job)] += 1
        self.outcome.attempts += job.attempt
        self.outcome.events += len(follower.events)
        found = await problems(reader, follower, EPOCHS, known)
        self.outcome.problems += [f"{job.name}: {problem}" for problem in found]
        await follower.close()
        return job

    async def _leave(self) -> None:
        """Stop the agents: nothing that they have started may outlive them."""
        await asyncio.gather(*(agent.stop() for agent in self._agents.values()))
        left = await _still(self._mesh.leftovers, LEASE)
        if left:
            self.outcome.problems.append(f"orphaned: {len(left)} processes outlived their agents")


async def _still(look: Callable[[], list[int]], patience: float) -> list[int]:
    """What is there after `patience` seconds, or nothing as soon as nothing is."""
    until = time.monotonic() + patience
    while (found := look()) and time.monotonic() < until:  # noqa: ASYNC110 - they end without a word
        await asyncio.sleep(0.05)
    return found


def job_processes(followers: Iterable[Follower]) -> list[int]:
    """The processes, among those that attempts were started in, that run still."""
    pids = {
        event.update.attempt_started.pid
        for follower in followers
        for event in follower.events
        if event.update.HasField("attempt_started")
    }
    return sorted(pid for pid in pids if _runs_jobs(pid))


def _runs_jobs(pid: int) -> bool:
    """Whether it lives, and is no other program that was given the same number."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any(
            "runners" in word for word in process.cmdline()
        )
    except psutil.Error:
        return False


async def soak(
    folder: Path, seconds: float, seed: int, database_url: str, pause: tuple[float, float] = PAUSE
) -> Outcome:
    """One run in a new folder; on PostgreSQL with two schedulers."""
    settings = SETTINGS | {"database_url": database_url}
    replicas = REPLICAS[database_url.partition(":")[0]]
    async with fault_mesh(folder, replicas=replicas, **settings) as (mesh, _):
        outcome = await Soak(mesh, seed, pause).run(seconds)
    if replicas > 1:
        outcome.deadlocks = await asyncio.to_thread(_deadlocks, database_url)
    return outcome


def _deadlocks(url: str) -> int:
    with psycopg.connect(url) as connection:
        counted = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        return int((counted.fetchone() or (0,))[0])


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a new database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/soak.db"
        return
    found = programs()
    if found is None:
        raise SystemExit(f"PostgreSQL is not installed: {INSTALL}")
    with serving(found) as server:
        yield server.new_database()


def main() -> int:
    """Run as told; the exit code is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long things are broken (default 600)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a random one")
    parser.add_argument("--database", choices=sorted(REPLICAS), help="default: each in turn")
    options = parser.parse_args()
    kinds = [options.database] if options.database else sorted(REPLICAS)
    return max(_run(kind, options.seconds, options.seed) for kind in kinds)


def _run(kind: str, seconds: float, seed: int) -> int:
    print(f"{kind}: seed {seed}, {seconds:g} s", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="visionmesh-soak-"))
    with _database(kind, folder) as url:
        outcome = asyncio.run(soak(folder, seconds, seed, url))
    print(outcome, flush=True)
    if outcome.problems:
        print(f"Logs and files are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
