"""Links that lose packets, and slow ones (row 15)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from fault_mesh import Follower, Process, fault_mesh, followed, state, training
from network import LinkedMesh, Network

from visionmesh.v1 import job_pb2

PATIENCE = 180.0
"""Seconds until everything has arrived, at the latest: chance decides how often a connection breaks."""

MIB = 1024 * 1024


class Usage:
    """The memory of an agent, and what its journals take; the most that was seen."""

    def __init__(self, agent: Process, work_dir: Path) -> None:
        self._process, self._journals = psutil.Process(agent.pid), work_dir / "journals"
        self._memory_before = self._memory = self._process.memory_info().rss
        self.journal_bytes = 0

    @property
    def growth_bytes(self) -> int:
        """By how much the agent has grown."""
        return self._memory - self._memory_before

    async def nothing_waits(self) -> None:
        """Return when everything is acknowledged, and the journals are removed."""
        async with asyncio.timeout(PATIENCE):
            while _size(self._journals):  # noqa: ASYNC110 - a folder tells nobody
                await asyncio.sleep(0.05)

    async def measure(self) -> None:
        """Look from time to time, until cancelled."""
        while True:
            self._memory = max(self._memory, self._process.memory_info().rss)
            self.journal_bytes = max(self.journal_bytes, _size(self._journals))
            await asyncio.sleep(0.1)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # removed meanwhile
            continue
    return total


@asynccontextmanager
async def measured(agent: Process, work_dir: Path) -> AsyncIterator[Usage]:
    usage = Usage(agent, work_dir)
    measuring = asyncio.create_task(usage.measure())
    try:
        yield usage
    finally:
        measuring.cancel()


def percentiles(job: Follower) -> str:
    """Time from what the job process told to its commit; the acknowledgement sets out at once."""
    told = [event for event in job.events if event.update.HasField("epoch_completed")]
    waits = sorted(e.commit_time.ToNanoseconds() - e.update.event_time.ToNanoseconds() for e in told)
    p50, p99 = (waits[int(share * (len(waits) - 1))] / 1e9 for share in (0.5, 0.99))
    return f"told to committed p50 {p50:.2f} s, p99 {p99:.2f} s"


async def _over_a_bad_link(network: Network, folder: Path, job_: job_pb2.Job, *, percent: int = 0) -> Process:
    """A training, of which all but the beginning goes over a link of 256 kbit/s that loses packets."""
    epochs = job_.train.epochs
    async with fault_mesh(folder, LinkedMesh(folder, network)) as (mesh, _):
        agent = await mesh.agent("one")
        async with measured(agent, folder / "one") as usage, followed(mesh, job_, PATIENCE) as job:
            await job.sees_epoch(1)
            began = time.monotonic()
            for host in (network.scheduler, network.runner):
                await host.slow(256)
                await host.lose(percent)
            ended = await job.end()
            took = time.monotonic() - began
        interrupted = agent.log_text().count("stream interrupted")
        reconnects = agent.log_text().count("registered") - 1
    print(f"{percent} % lost, 256 kbit/s: {epochs} epochs in {took:.1f} s, {percentiles(job)}")
    print(f"streams interrupted {interrupted} times, registered anew {reconnects} times")
    print(
        f"agent grew by {usage.growth_bytes / MIB:.1f} MiB; "
        f"journal {usage.journal_bytes / MIB:.2f} MiB at most"
    )
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, epochs + 1))}
    assert usage.growth_bytes < 64 * MIB
    assert 0 < usage.journal_bytes < 16 * MIB
    return agent


async def test_a_link_that_loses_a_third_of_its_packets_loses_no_lease(
    network: Network, tmp_path: Path
) -> None:
    job = training(epochs=200, epoch_ms=50, checkpoint_period=50)
    await _over_a_bad_link(network, tmp_path, job, percent=30)


async def test_more_than_a_slow_link_can_carry_waits_in_the_journal(network: Network, tmp_path: Path) -> None:
    await _over_a_bad_link(network, tmp_path, training(epochs=3000, checkpoint_period=3000))


async def test_a_file_gets_through_a_slow_link(network: Network, tmp_path: Path) -> None:
    """Answers to pings queue behind it; who took that for silence would begin it anew for ever."""
    job = training(epochs=2, checkpoint_period=2, epoch_ms=500, checkpoint_kib=300)
    agent = await _over_a_bad_link(network, tmp_path, job)
    tried_again = agent.log_text().count("upload tried again")
    print(f"300 KiB: begun anew {tried_again} times")
    assert tried_again <= 2  # a connection that was fast before has more in its buffers than a new one
