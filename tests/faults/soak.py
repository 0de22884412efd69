"""Kills what it can while many small jobs run, then checks that nothing is lost, doubled or left behind.

    python tests/faults/soak.py --seconds 300 --seed 7

Every random choice follows from the seed, which is printed: a run that fails can be begun again.
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
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]

from fault_mesh import FaultMesh, Follower, Process, fault_mesh, training

from visionmesh.audit import check_history, read_history
from visionmesh.client import AsyncJobHandle
from visionmesh.errors import Unavailable
from visionmesh.v1 import job_pb2, vision_pb2

AGENTS = 3
JOBS_AT_A_TIME = 6
EPOCHS = 8
PAUSE = (2.0, 5.0)
"""Seconds between two faults."""

LEASE = 3.0
END = 60.0
"""Seconds after the last fault in which every job has to end."""


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    events: int = 0
    attempts: int = 0
    problems: list[str] = field(default_factory=list)
    """What the history checker found; empty if every promise was kept."""
    settle_seconds: float = 0.0
    """From the last fault to the end of the last job."""

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.jobs.items()))
        lines = [
            f"seed {self.seed}",
            f"faults    {faults or 'none'}",
            f"jobs      {states}; {self.attempts} attempts, {self.events} events",
            f"settled   {self.settle_seconds:.1f} s after the last fault",
            f"problems  {len(self.problems)} (lost, doubled, completed twice, orphaned, never ended)",
        ]
        return "\n".join(lines + [f"  {problem}" for problem in self.problems])


class Soak:
    """One run."""

    def __init__(self, mesh: FaultMesh, scheduler: Process, seed: int) -> None:
        self._mesh, self._scheduler = mesh, scheduler
        self._agents: dict[str, Process] = {}
        self._followers: list[Follower] = []
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.outcome = Outcome(seed)

    async def run(self, seconds: float) -> Outcome:
        """Faults under load for so many seconds, then peace, then the checks."""
        for number in range(AGENTS):
            self._agents[f"agent-{number}"] = await self._mesh.agent(f"agent-{number}")
        loading = asyncio.create_task(self._load())
        try:
            await self._break_things(seconds)
        finally:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
        await self._settle()
        await self._check()
        return self.outcome

    async def _load(self) -> None:
        """Keep some jobs under way."""
        while True:
            running = [follower for follower in self._followers if not follower.has_ended]
            for _ in range(JOBS_AT_A_TIME - len(running)):
                job = training(epochs=EPOCHS, epoch_ms=self._random.randint(20, 200), checkpoint_period=2)
                job.retry_policy.max_attempts = 100  # what is killed is no fault of its own
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
            self._kill_agent,
            self._kill_agent,
            self._kill_job_process,
            self._kill_job_process,
            self._freeze_agent,
            self._stop_agent,
        ]
        while time.monotonic() < until:
            await asyncio.sleep(self._random.uniform(*PAUSE))
            fault = self._random.choice(faults)
            self.outcome.faults[fault.__name__.strip("_").replace("_", " ")] += 1
            await fault()

    async def _kill_scheduler(self) -> None:
        await self._scheduler.kill()
        await asyncio.sleep(self._random.uniform(0, 1.5))
        self._scheduler = await self._mesh.scheduler(**SETTINGS)

    async def _kill_agent(self) -> None:
        name = self._some_agent()
        await self._agents[name].kill()
        await self._again(name)

    async def _stop_agent(self) -> None:
        """As a planned shutdown does."""
        name = self._some_agent()
        await self._agents[name].stop()
        await self._again(name)

    async def _again(self, name: str) -> None:
        await asyncio.sleep(self._random.uniform(0, 1.5))
        self._agents[name] = await self._mesh.agent(name)

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

    def _some_agent(self) -> str:
        return self._random.choice(sorted(self._agents))

    async def _settle(self) -> None:
        """Wait until every job has ended; then nothing of one may run any more."""
        began = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(END):
                await asyncio.gather(*(follower.ended() for follower in self._followers))
        self.outcome.settle_seconds = time.monotonic() - began
        with suppress(TimeoutError):
            async with asyncio.timeout(LEASE):
                while job_processes(self._followers):  # noqa: ASYNC110 - they end without a word
                    await asyncio.sleep(0.05)
        orphans = len(job_processes(self._followers))
        if orphans:
            self.outcome.problems.append(f"{orphans} job processes are left")

    async def _check(self) -> None:
        """Compare, job by job, what a watcher saw all the while with what a fresh reader sees now."""
        for follower in self._followers:
            job = await follower.job.get()
            state = vision_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
            self.outcome.jobs[state] += 1
            self.outcome.attempts += job.attempt
            self.outcome.events += len(follower.events)
            self.outcome.problems += [
                f"{job.name}: {problem}" for problem in await _problems(follower, state)
            ]
            await follower.close()


async def _problems(follower: Follower, state: str) -> list[str]:
    if state != "SUCCEEDED":
        return [f"it is {state}"]
    history = await read_history(follower.job)
    found = [f"{check.name}: {problem}" for check in check_history(history) for problem in check.problems]
    if list(follower.events) != list(history.events):
        found.append(
            f"a watcher saw {len(follower.events)} events, a fresh reader sees {len(history.events)}, "
            "or others"
        )
    ends = [event for event in history.events if event.update.state_changed.to_state == history.job.state]
    if len(ends) != 1:
        found.append(f"it was completed {len(ends)} times")
    last = [
        event.update.epoch_completed.epoch
        for event in history.events
        if event.update.HasField("epoch_completed")
    ][-1:]
    if last != [EPOCHS]:
        found.append(f"its last epoch is {last}, and {EPOCHS} were asked for")
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


SETTINGS: dict[str, object] = {"lease_seconds": LEASE, "heartbeat_seconds": 0.5}


async def soak(folder: Path, seconds: float, seed: int) -> Outcome:
    """One run in a new folder."""
    async with fault_mesh(folder, **SETTINGS) as (mesh, scheduler):
        return await Soak(mesh, scheduler, seed).run(seconds)


def main() -> int:
    """Run as told; the exit code is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long things are broken (default 600)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a random one")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="visionmesh-soak-"))
    outcome = asyncio.run(soak(folder, options.seconds, options.seed))
    print(outcome)
    if outcome.problems:
        print(f"Database and logs are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
