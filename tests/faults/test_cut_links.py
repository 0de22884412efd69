"""Links that are cut: both ways (row 14), and one way only (row 16)."""

import asyncio
import time
from pathlib import Path

import pytest
from fault_mesh import fault_mesh, followed, state, training
from network import Host, LinkedMesh, Network

NOTICED_SECONDS = 20.0
"""Keepalives take 3 to 8 s; a slow machine may be later. Without them nobody ever notices."""


async def test_an_idle_link_that_falls_silent_is_noticed_on_both_sides(
    network: Network, tmp_path: Path
) -> None:
    async with fault_mesh(tmp_path, LinkedMesh(tmp_path, network)) as (mesh, scheduler):
        agent = await mesh.agent("one")
        cut = time.monotonic()
        for host in (network.scheduler, network.runner):
            await host.lose(100)  # nobody is told that the other is gone
        noticed = await asyncio.gather(
            agent.says("scheduler not reached"), scheduler.says("runner disconnected")
        )
        by_agent, by_scheduler = (when - cut for when in noticed)
        heard, mended = len(agent.log_text()), time.monotonic()
        for host in (network.scheduler, network.runner):
            await host.lose(0)
        back = await agent.says("registered", heard)
    print(
        f"idle link, noticed by the agent after {by_agent:.1f} s, by the scheduler after {by_scheduler:.1f} s"
    )
    print(f"registered {back - mended:.1f} s after the link was mended")
    assert max(by_agent, by_scheduler) < NOTICED_SECONDS


async def test_a_link_that_is_cut_for_20_s_loses_and_doubles_nothing(
    network: Network, tmp_path: Path
) -> None:
    epochs = 600  # 24 s at least: the training outlasts the cut
    async with fault_mesh(tmp_path, LinkedMesh(tmp_path, network)) as (mesh, scheduler):
        agent = await mesh.agent("one")
        async with followed(mesh, training(epochs=epochs, epoch_ms=40, checkpoint_period=100)) as job:
            await job.sees_epoch(20)
            await mesh.heartbeat("one")  # of the lease of 30 s, 10 s are for coming back
            cut = time.monotonic()
            await network.runner.unplug()
            noticed = await asyncio.gather(
                agent.says("stream interrupted"), scheduler.says("runner disconnected")
            )
            by_agent, by_scheduler = (when - cut for when in noticed)
            await asyncio.sleep(cut + 20 - time.monotonic())
            before, heard, mended = len(job.epochs[1]), len(agent.log_text()), time.monotonic()
            await network.runner.plug_in()
            back = await agent.says("registered", heard)
            await job.sees_epoch(before + 1)
            news = time.monotonic()
            ended = await job.end()
    print(f"noticed while writing: agent after {by_agent:.1f} s, scheduler after {by_scheduler:.1f} s")
    print(
        f"{before} of {epochs} epochs had come before; mended, registered after {back - mended:.1f} s, "
        f"the next epoch after {news - mended:.1f} s"
    )
    assert max(by_agent, by_scheduler) < NOTICED_SECONDS
    assert before < epochs // 2
    assert (state(ended), ended.attempt, ended.failure_count) == ("SUCCEEDED", 1, 0)
    assert job.epochs == {1: list(range(1, epochs + 1))}


@pytest.mark.parametrize("deaf", ["scheduler", "runner"])
async def test_a_job_whose_runner_is_cut_off_one_way_is_completed_once(
    network: Network, tmp_path: Path, deaf: str
) -> None:
    host: Host = getattr(network, deaf)
    lease = 2.0
    linked = LinkedMesh(tmp_path, network)
    async with fault_mesh(tmp_path, linked, lease_seconds=lease, heartbeat_seconds=0.3) as (mesh, _):
        first = await mesh.agent("one")
        async with followed(mesh, training(epochs=50, epoch_ms=100)) as job:
            await job.sees_epoch(2)
            cut = time.monotonic()
            await host.lose(100)
            await linked.agent_beside_the_scheduler("two")
            await job.sees(lambda event: event.attempt == 2)
            lost = time.monotonic() - cut
            await first.says("attempt ends")  # its training is complete, and nobody may hear of it
            ended = await job.end()
            told = len(first.log_text())
            await host.lose(0)
            await first.says("attempt dropped", told)
            after = await job.job.get()
    print(f"{deaf} deaf, lease of {lease:.0f} s: lost after {lost:.1f} s")
    told = {attempt: len(epochs) for attempt, epochs in job.epochs.items()}
    print(f"epochs stored by attempt {told}; completions {len(job.endings)}")
    assert (state(ended), ended.attempt, after) == ("SUCCEEDED", 2, ended)
    assert job.endings == [(2, "SUCCEEDED", "UNSPECIFIED")]
