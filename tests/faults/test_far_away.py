"""An agent that is far from its scheduler: every round trip takes its time."""

import time
from pathlib import Path

from fault_mesh import FRAMEWORK, fault_mesh, followed, state, training
from network import FarAway

DELAY = 0.15
"""Seconds in one direction; a connection is ready for its first call after four of them."""


async def test_an_agent_that_is_far_away_registers_at_the_first_try(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, _):
        way = FarAway(int(mesh.address.rpartition(":")[2]), DELAY)
        async with way.address() as address:
            began = time.monotonic()
            agent = await mesh.agent("one", FRAMEWORK, "--scheduler", address)
            took = time.monotonic() - began
            connections, said = way.connections, agent.log_text()
            async with followed(mesh, training()) as job:
                ended = await job.end()
            await agent.stop()
    print(f"{2000 * DELAY:.0f} ms there and back: started and registered in {took:.1f} s")
    assert "scheduler not reached" not in said
    assert connections == 1
    assert (state(ended), ended.attempt) == ("SUCCEEDED", 1)
