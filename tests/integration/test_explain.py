"""ExplainJob says in one sentence why a job is where it is, whatever the reason."""

from collections.abc import Callable
from typing import Any

import pytest
from runner_double import ended

from visionmesh.v1 import job_pb2, runner_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

ATrain = Callable[..., job_pb2.Job]


async def test_no_runner_could_ever_take_it(mesh: Any, a_train: ATrain) -> None:
    job = await mesh.create(a_train())
    answer = await mesh.explain(job.name)
    assert "it is next: no known runner could ever take it" in answer.summary
    assert answer.waiting_for[0].reason == "NO_RUNNER"


async def test_the_only_runner_has_gone(mesh: Any, a_train: ATrain, framework: str) -> None:
    async with mesh.runner(framework) as runner:
        pass
    job = await mesh.create(a_train())
    summary = (await mesh.explain(job.name)).summary
    assert summary == f"The job is queued, it is next: {runner.name} is not connected."


async def test_others_are_ahead_of_it(mesh: Any, a_train: ATrain, framework: str) -> None:
    async with mesh.runner(framework) as runner:
        running = await mesh.create(a_train())
        _, stream = await runner.start()
        await mesh.create(a_train())
        await mesh.create(a_train())
        last = await mesh.create(a_train())
        summary = (await mesh.explain(last.name)).summary
        assert summary == f"The job is queued, 2 jobs are ahead of it: {runner.name} has no free slot."
        where = f"on {runner.name}, attempt 1."
        assert (await mesh.explain(running.name)).summary == f"The job is running {where}"
        await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=running.name))
        assert (await mesh.explain(running.name)).summary == f"The job is stopping {where}"
        await stream.send(ended("CANCELLED", "CANCELLED"))
        assert "was cancelled" in (await mesh.explain(running.name)).summary


async def test_its_runner_is_being_drained(mesh: Any, a_train: ATrain, framework: str) -> None:
    async with mesh.runner(framework) as runner:
        request = runner_pb2.DrainRunnerRequest(name=runner.name)
        await mesh.call(mesh.runners.DrainRunner, request)
        job = await mesh.create(a_train())
        answer = await mesh.explain(job.name)
        assert f"{runner.name} is being drained (undrain it" in answer.summary
        assert [list(verdict.obstacles) for verdict in answer.runners if verdict.runner == runner.name] == [
            ["DRAINING"]
        ]


async def test_it_has_ended(mesh: Any, a_train: ATrain, framework: str) -> None:
    async with mesh.runner(framework) as runner:
        good = await mesh.create(a_train())
        await runner.run()
        bad = await mesh.create(a_train())
        await runner.run(ended("FAILED", "USER_ERROR", "the labels are odd"))
        await mesh.until_state(bad.name, "FAILED")
    assert (await mesh.explain(good.name)).summary == "The job has succeeded in attempt 1."
    assert (await mesh.explain(bad.name)).summary == "The job has failed in attempt 1: the labels are odd"


async def test_only_runners_that_may_fetch_published_weights_get_jobs_that_need_them(
    mesh: Any, a_train: ATrain, framework: str
) -> None:
    """With no runner known yet, the job is accepted, and waits for one that may."""
    job = await mesh.create(_from_published(a_train()))
    async with mesh.runner(framework) as offline:
        other = await mesh.create(a_train())
        assert (await offline.next_assignment()).job.name == other.name  # it came later
        answer = await mesh.explain(job.name)
        (verdict,) = [verdict for verdict in answer.runners if verdict.runner == offline.name]
        assert list(verdict.obstacles) == ["PRETRAINED", "SLOTS"]
        async with mesh.runner(framework, fetches_pretrained=True) as allowed:
            assert (await allowed.next_assignment()).job.name == job.name


async def test_no_runner_may_fetch_published_weights(mesh: Any, a_train: ATrain, framework: str) -> None:
    job = await mesh.create(_from_published(a_train()))
    async with mesh.runner(framework) as offline:
        summary = (await mesh.explain(job.name)).summary
        words = f"{offline.name} is not allowed to fetch published weights (start it with --pretrained)"
        assert summary == f"The job is queued, it is next: {words}."


def _from_published(job: job_pb2.Job) -> job_pb2.Job:
    job.train.pretrained = True
    return job
