"""Jobs that kill whatever runs them (row 34)."""

import signal
from pathlib import Path

from fault_mesh import fault_mesh, followed, state, training


async def test_a_job_that_always_crashes_is_given_up_and_its_runner_goes_on(tmp_path: Path) -> None:
    async with fault_mesh(tmp_path) as (mesh, _):
        await mesh.agent("one")
        async with followed(mesh, training("killed", seed=signal.SIGSEGV)) as poison:
            given_up = await poison.end()
        async with followed(mesh, training()) as healthy:
            done = await healthy.end()
    print(f"attempts used: {given_up.attempt}; the runner's next job: {state(done)}")
    assert (state(given_up), given_up.attempt, given_up.failure_count) == ("FAILED", 3, 3)
    assert [(outcome, cause) for _, outcome, cause in poison.endings] == [("FAILED", "PROCESS_DIED")] * 3
    assert "SIGSEGV" in given_up.error.message
    assert (state(done), done.attempt) == ("SUCCEEDED", 1)
