"""The life of jobs over real gRPC: lists, pipelines, order, retries, cancels, lost runners, explanations."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from runner_double import PATIENCE, RunnerDouble, ended, epoch, line, started

from visionmesh.errors import MeshError, Reason, reason_of
from visionmesh.v1 import (
    dataset_pb2,
    job_pb2,
    progress_pb2,
    result_pb2,
    runner_pb2,
    vision_pb2,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MakeTrain = Callable[..., job_pb2.Job]
AT_ONCE = job_pb2.RetryPolicy(max_attempts=2, initial_backoff=Duration(nanos=10_000_000))


def state(job: job_pb2.Job) -> str:
    return vision_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")


def attempt_states(job: job_pb2.Job) -> list[tuple[str, str]]:
    return [
        (
            vision_pb2.AttemptState.Name(attempt.state).removeprefix("ATTEMPT_STATE_"),
            vision_pb2.AttemptCause.Name(attempt.cause).removeprefix("ATTEMPT_CAUSE_"),
        )
        for attempt in job.attempts
    ]


def on_images_of(dataset: dataset_pb2.Dataset, checkpoint: str, **fields: Any) -> job_pb2.Job:
    images = job_pb2.ImageSource(dataset_images=job_pb2.DatasetImages(dataset=dataset.name))
    return job_pb2.Job(infer=job_pb2.InferSpec(checkpoint=checkpoint, images=images), **fields)


async def listed(mesh: Any, **fields: Any) -> list[str]:
    return [job.display_name async for job in mesh.client.list_jobs(**fields)]


async def publish(runner: RunnerDouble, job: str, attempt: int, name: str, data: bytes, **extra: str) -> str:
    """Store a checkpoint and publish it as an artifact; returns its URI."""
    uri = await runner.store(job, attempt, f"{name}.pt", data)
    results = await runner.results(job, attempt)
    await results.send(
        result_pb2.ResultItem(
            artifact=result_pb2.Artifact(
                name=f"{job}/artifacts/{name}",
                kind=result_pb2.ARTIFACT_KIND_CHECKPOINT,
                uri=uri,
                content_type="application/octet-stream",
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                metadata=extra,
            )
        )
    )
    results.close()
    return uri


async def test_pages_are_gapless_while_jobs_are_added(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    for number in range(7):
        await mesh.create(a_train(display_name=f"old {number}"))
    names: list[str] = []
    request = job_pb2.ListJobsRequest(page_size=2, filter=f"framework = {framework}")
    while True:
        page = await mesh.call(mesh.jobs.ListJobs, request)
        names += [job.display_name for job in page.jobs]
        if not page.next_page_token:
            break
        await mesh.create(a_train(display_name="new"))
        request.page_token = page.next_page_token
    assert names == [f"old {number}" for number in reversed(range(7))]


async def test_a_list_is_ordered_as_asked(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    for name, priority in (("a", 3), ("b", 9), ("c", 3), ("d", 0)):
        await mesh.create(a_train(display_name=name, priority=priority))
    mine = f"framework = {framework}"
    assert await listed(mesh, filter=mine) == ["d", "c", "b", "a"]
    assert await listed(mesh, filter=mine, order_by="create_time") == ["a", "b", "c", "d"]
    assert (await listed(mesh, filter=mine, order_by="priority desc", page_size=1))[0] == "b"
    by_priority = await listed(mesh, filter=mine, order_by="priority", page_size=1)
    assert (by_priority[0], set(by_priority[1:3]), by_priority[3]) == ("d", {"a", "c"}, "b")


async def test_filters_choose(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    await mesh.create(a_train(display_name="night run", priority=8, labels={"team": "vision"}))
    stopped = await mesh.create(a_train(display_name='say "hi"', labels={"team": "audio", "env": "x/y"}))
    await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=stopped.name))
    cases = {
        "state = QUEUED": {"night run"},
        "state = QUEUED|CANCELLED": {"night run", 'say "hi"'},
        "state != QUEUED": {'say "hi"'},
        "kind = infer": set(),
        "priority >= 6": {"night run"},
        "priority < 8": {'say "hi"'},
        "labels.team = vision": {"night run"},
        "labels.team = vision|audio": {"night run", 'say "hi"'},
        "labels.team != vision": {'say "hi"'},
        "labels.none != vision": {"night run", 'say "hi"'},
        'labels.env = "x/y"': {'say "hi"'},
        'display_name = "night run"': {"night run"},
        r'display_name = "say \"hi\""': {'say "hi"'},
        'create_time > "2020-01-01T00:00:00Z"': {"night run", 'say "hi"'},
        'create_time < "2020-01-01T00:00:00Z"': set(),
        "labels.team = vision AND state = QUEUED AND priority = 8": {"night run"},
    }
    found = {text: set(await listed(mesh, filter=f"framework = {framework} AND {text}")) for text in cases}
    assert found == cases


async def test_a_pipeline_runs_in_the_order_of_its_dependencies(
    mesh: Any, a_train: MakeTrain, dataset: dataset_pb2.Dataset, framework: str
) -> None:
    train = await mesh.create(a_train())
    best = f"{train.name}/artifacts/best"
    infer = await mesh.create(on_images_of(dataset, best, framework=framework))
    assert (state(infer), list(infer.depends_on)) == ("PENDING", [train.name])
    why = await mesh.explain(infer.name)
    assert [(wait.reason, wait.resource) for wait in why.waiting_for] == [("DEPENDENCY", train.name)]
    assert why.queue_position == -1
    async with mesh.runner(framework) as runner:
        assignment, stream = await runner.start()
        assert assignment.job.name == train.name
        assert assignment.dataset.digest == dataset.digest
        await publish(runner, train.name, 1, "best", b"weights")
        await stream.send(epoch(1, mAP50=0.5), ended(results_number=1))
        second = await runner.take()
        assert second.job.name == infer.name
        assert len(second.images) == 3  # the test split
        assert await runner.fetch(infer.name, 1, second.checkpoint.uri) == {"best.pt": b"weights"}
    finished = await mesh.get(train.name)
    assert state(finished) == "SUCCEEDED"
    assert finished.progress.metrics["mAP50"] == 0.5
    assert finished.reproducibility.package_versions["torch"] == "0"
    assert (mesh.folder / "artifacts/checkpoints" / train.name[5:] / "best.pt").read_bytes() == b"weights"


async def test_a_job_whose_dependency_fails_fails_with_the_reason(mesh: Any, a_train: MakeTrain) -> None:
    first = await mesh.create(a_train())
    second = await mesh.create(a_train(depends_on=[first.name]))
    third = await mesh.create(a_train(depends_on=[second.name]))
    await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=first.name))
    failed = await mesh.until_state(third.name, "FAILED")
    assert reason_of(failed.error) == Reason.DEPENDENCY_FAILED
    assert second.name in failed.error.message
    with pytest.raises(MeshError, match="will not succeed") as caught:
        await mesh.create(a_train(depends_on=[first.name]))
    assert caught.value.reason == Reason.DEPENDENCY_FAILED


async def test_priority_goes_before_age(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    for name, priority in (("a", 5), ("b", 5), ("c", 10), ("d", 0)):
        await mesh.create(a_train(display_name=name, priority=priority))
    async with mesh.runner(framework) as runner:
        ran = [(await runner.run()).job.display_name for _ in range(4)]
    assert ran == ["c", "a", "b", "d"]


async def test_a_failing_job_is_retried_and_then_given_up(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    job = await mesh.create(a_train(retry_policy=AT_ONCE))
    async with mesh.runner(framework) as runner:
        for _ in range(2):
            await runner.run(ended("FAILED", "OUT_OF_MEMORY", "no memory is left"))
        failed = await mesh.until_state(job.name, "FAILED")
    assert attempt_states(failed) == [("FAILED", "OUT_OF_MEMORY")] * 2
    assert failed.failure_count == 2
    assert failed.error.message == "no memory is left"
    events = await mesh.call(mesh.jobs.ListJobEvents, job_pb2.ListJobEventsRequest(parent=job.name))
    reasons = [e.update.state_changed.reason for e in events.events if e.update.HasField("state_changed")]
    once = ["STARTED", "RETRY_SCHEDULED", "BACKOFF_OVER"]
    assert reasons == ["CREATED", *once, "STARTED", "ATTEMPTS_EXHAUSTED"]
    again = await mesh.call(mesh.jobs.RetryJob, job_pb2.RetryJobRequest(name=job.name))
    assert (again.retried_from, again.attempt, again.failure_count) == (job.name, 0, 0)
    assert again.train == job.train


async def test_a_users_mistake_is_not_repeated(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        await runner.run(ended("FAILED", "USER_ERROR", "the dataset has no images"))
        failed = await mesh.until_state(job.name, "FAILED")
    assert len(failed.attempts) == 1


async def test_a_backoff_is_explained(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    pause = Duration(seconds=600)
    policy = job_pb2.RetryPolicy(initial_backoff=pause, max_backoff=pause)
    job = await mesh.create(a_train(retry_policy=policy))
    async with mesh.runner(framework) as runner:
        await runner.run(ended("FAILED", "PROCESS_DIED", "killed"))
        waiting = await mesh.until_state(job.name, "PENDING")
    why = await mesh.explain(job.name)
    assert [wait.reason for wait in why.waiting_for] == ["BACKOFF"]
    assert why.waiting_for[0].until_time == waiting.retry_time
    wait = waiting.retry_time.ToDatetime() - waiting.update_time.ToDatetime()
    assert timedelta(seconds=480) <= wait <= timedelta(seconds=720)


async def test_a_job_that_nobody_takes_fails_after_its_queue_timeout(mesh: Any, a_train: MakeTrain) -> None:
    job = await mesh.create(a_train(queue_timeout=Duration(nanos=50_000_000)))
    failed = await mesh.until_state(job.name, "FAILED")
    assert reason_of(failed.error) == Reason.QUEUE_TIMEOUT
    assert "0.05 s" in failed.error.message


async def test_a_queued_job_is_cancelled_at_once(mesh: Any, a_train: MakeTrain) -> None:
    job = await mesh.create(a_train())
    cancelled = await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=job.name))
    assert state(cancelled) == "CANCELLED"


async def test_a_running_job_is_cancelled_when_its_attempt_has_ended(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        _assignment, stream = await runner.start()
        request = job_pb2.CancelJobRequest(name=job.name, grace_period=Duration(seconds=7))
        asked = await mesh.call(mesh.jobs.CancelJob, request)
        assert (state(asked), asked.cancel_requested) == ("RUNNING", True)
        async with asyncio.timeout(PATIENCE):
            order = await runner.cancels.get()
        assert (order.job, order.attempt, order.grace_period.seconds) == (job.name, 1, 7)
        await mesh.call(mesh.jobs.CancelJob, request)  # asking again changes nothing
        await stream.send(epoch(1), ended("CANCELLED", "CANCELLED"))
        cancelled = await mesh.get(job.name)
        assert runner.cancels.empty()
    assert state(cancelled) == "CANCELLED"
    assert attempt_states(cancelled) == [("CANCELLED", "CANCELLED")]
    assert cancelled.progress.epoch == 1


async def test_a_cancel_before_the_process_starts_fences_the_attempt(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        await runner.take()
        cancelled = await mesh.call(mesh.jobs.CancelJob, job_pb2.CancelJobRequest(name=job.name))
        assert state(cancelled) == "CANCELLED"
        async with asyncio.timeout(PATIENCE):
            assert (await runner.cancels.get()).job == job.name
        stream = await runner.progress(job.name, 1)
        with pytest.raises(MeshError) as caught:
            await stream.send(line("too late"))
        assert (caught.value.code, caught.value.reason) == (
            grpc.StatusCode.ABORTED,
            Reason.ATTEMPT_SUPERSEDED,
        )


async def test_work_that_overtakes_the_answer_to_its_assignment_counts(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        assignment = await runner.next_assignment()
        stream = await runner.progress(job.name, assignment.attempt)
        await stream.send(started())
        assert state(await mesh.get(job.name)) == "RUNNING"
        await runner.answer(assignment, True)
        await stream.send(ended())
    assert state(await mesh.get(job.name)) == "SUCCEEDED"


async def test_nothing_follows_the_end_of_an_attempt(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        _assignment, stream = await runner.start()
        with pytest.raises(MeshError) as caught:
            await stream.send(ended(), line("one more thing"))
        assert caught.value.reason == Reason.ATTEMPT_SUPERSEDED
        again = await runner.progress(job.name, 1)
        assert again.number == 2
        assert await again.send_from(1, line("a"), line("b")) == 2  # what is stored is acknowledged again
    events = await mesh.call(mesh.jobs.ListJobEvents, job_pb2.ListJobEventsRequest(parent=job.name))
    assert events.events[-1].update.state_changed.to_state == vision_pb2.JOB_STATE_SUCCEEDED


async def test_a_stream_refuses_gaps_and_keeps_what_is_unacceptable_in_its_place(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        _assignment, stream = await runner.start()
        bad = progress_pb2.ProgressUpdate(epoch_completed=progress_pb2.EpochCompleted(epoch=0))
        assert await stream.send(bad, line("fine")) == 3
        with pytest.raises(MeshError) as caught:
            await stream.send_from(9, line("a gap"))
        assert caught.value.metadata["expected_number"] == "4"
        stream = await runner.progress(job.name, 1)
        with pytest.raises(MeshError) as outstanding:
            await stream.send(ended(results_number=5))
        assert outstanding.value.reason == Reason.RESULTS_OUTSTANDING
        stream = await runner.progress(job.name, 1)
        assert await stream.send(ended()) == 4
    events = await mesh.call(mesh.jobs.ListJobEvents, job_pb2.ListJobEventsRequest(parent=job.name))
    rejected = [e.update.rejected for e in events.events if e.update.HasField("rejected")]
    assert [(item.number, item.reason) for item in rejected] == [(2, "INVALID_UPDATE")]


async def test_a_refused_assignment_goes_to_another_runner_and_is_no_failure(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as first:
        await first.answer(await first.next_assignment(), False, "no disk")
        await mesh.until(
            job.name, lambda seen: len(seen.attempts) == 2 or attempt_states(seen)[0][0] == "LOST"
        )
        await first.say_draining()
        async with mesh.runner(framework) as second:
            pending = asyncio.create_task(second.run())
            if not first.assignments.empty() or await _offered_again(first, pending):
                await first.answer(await first.next_assignment(), False, "no disk")
            await pending
    done = await mesh.get(job.name)
    assert (state(done), done.failure_count) == ("SUCCEEDED", 0)
    assert attempt_states(done)[0] == ("LOST", "NOT_ACCEPTED")
    assert "no disk" in done.attempts[0].error.message


async def _offered_again(runner: RunnerDouble, other: "asyncio.Task[Any]") -> bool:
    """Whether the runner is offered something before `other` is done."""
    offer = asyncio.create_task(runner.assignments.get())
    await asyncio.wait({offer, other}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
    if offer.done():
        runner.assignments.put_nowait(offer.result())
        return True
    offer.cancel()
    return False


async def test_explain_says_what_stands_in_the_way(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    first = await mesh.create(a_train())
    why = await mesh.explain(first.name)
    assert [wait.reason for wait in why.waiting_for] == ["NO_RUNNER"]
    async with mesh.runner(framework, labels={"zone": "a"}) as runner:
        _assignment, stream = await runner.start()
        why = await mesh.explain(first.name)
        assert (why.queue_position, list(why.waiting_for)) == (-1, [])
        assert runner.name in why.summary
        second = await mesh.create(a_train())
        third = await mesh.create(a_train())
        picky = await mesh.create(a_train(runner_selector={"zone": "b"}))
        large = await mesh.create(a_train(resources=job_pb2.Resources(gpus=1)))
        why = await mesh.explain(third.name)
        assert (why.queue_position, [w.reason for w in why.waiting_for]) == (1, ["CAPACITY"])
        verdicts = {verdict.runner: list(verdict.obstacles) for verdict in why.runners}
        assert verdicts[runner.name] == ["SLOTS"]
        assert all("FRAMEWORK" in found for name, found in verdicts.items() if name != runner.name)
        for job, obstacle in ((picky, "SELECTOR"), (large, "GPUS")):
            why = await mesh.explain(job.name)
            assert [wait.reason for wait in why.waiting_for] == ["NO_RUNNER"]
            assert obstacle in {v.runner: v for v in why.runners}[runner.name].obstacles
        await mesh.client.drain_runner(runner.name)
        await stream.send(ended())
        why = await mesh.explain(second.name)
        assert list({v.runner: v for v in why.runners}[runner.name].obstacles) == ["DRAINING"]
        assert [wait.reason for wait in why.waiting_for] == ["CAPACITY"]
        shown = {r.name: r async for r in mesh.client.list_runners()}[runner.name]
        assert shown.state == runner_pb2.RUNNER_STATE_DRAINING
        assert runner.assignments.empty()
        await mesh.client.undrain_runner(runner.name)
        given = await runner.next_assignment()
        assert given.job.name == second.name
        why = await mesh.explain(second.name)
        assert [(w.reason, w.resource) for w in why.waiting_for] == [("ASSIGNMENT", runner.name)]


async def test_a_job_that_does_not_fit_blocks_nobody(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    await mesh.create(a_train(display_name="large", priority=10, resources=job_pb2.Resources(gpus=8)))
    await mesh.create(a_train(display_name="small"))
    async with mesh.runner(framework) as runner:
        assert (await runner.run()).job.display_name == "small"


async def test_a_new_process_under_the_same_id_supersedes_the_old_one(
    mesh: Any, a_train: MakeTrain, framework: str
) -> None:
    async with mesh.runner(framework, runner_id=f"twin-{framework[10:]}") as old:
        await mesh.client.drain_runner(old.name)
        twin = mesh.runner(framework, runner_id=old.name[8:], incarnation="incarnation-2")
        async with twin as new:
            await mesh.client.undrain_runner(new.name)
            job = await mesh.create(a_train())
            await new.run()
            assert state(await mesh.get(job.name)) == "SUCCEEDED"
            assert old.assignments.empty()
            await old.beat()
            assert (await old.ended_with()).reason == Reason.RUNNER_SUPERSEDED


async def test_a_job_and_all_that_it_left_is_deleted(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        _assignment, stream = await runner.start()
        await publish(runner, job.name, 1, "best", b"weights")
        await stream.send(ended(results_number=1))
    places = [mesh.folder / "artifacts" / kind / job.name[5:] for kind in ("attempts", "checkpoints")]
    assert all(place.is_dir() for place in places)
    await mesh.call(mesh.jobs.DeleteJob, job_pb2.DeleteJobRequest(name=job.name))
    assert not any(place.exists() for place in places)
    with pytest.raises(MeshError) as caught:
        await mesh.get(job.name)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_objects_are_moved_whole_or_not_at_all(
    mesh: Any, a_train: MakeTrain, dataset: dataset_pb2.Dataset, framework: str
) -> None:
    job = await mesh.create(a_train())
    data = bytes(range(256)) * 4000
    async with mesh.runner(framework) as runner:
        assignment, stream = await runner.start()
        for wrong in ({"sha256": "0" * 64}, {"size_bytes": 5}):
            with pytest.raises(MeshError) as caught:
                await runner.store(job.name, 1, "best.pt", data, **wrong)
            assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS)
        await publish(runner, job.name, 1, "best", data)
        fetched = await runner.fetch(job.name, 1, assignment.dataset.uri)
        assert len([path for path in fetched if path.startswith("images/")]) == 13
        for uri in ("file:///etc/passwd", dataset.uri + "data.yaml"):
            with pytest.raises(MeshError) as foreign:
                await runner.fetch(job.name, 1, uri)
            assert foreign.value.code is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(MeshError) as late:
            await runner.fetch(job.name, 2, assignment.dataset.uri)
        assert late.value.reason == Reason.ATTEMPT_SUPERSEDED
        await stream.send(ended(results_number=1))
    for offset in (0, 300_001, len(data)):
        request = result_pb2.DownloadArtifactRequest(
            artifact=f"{job.name}/artifacts/best", read_offset=offset
        )
        parts = [body async for body in mesh.results.DownloadArtifact(request)]
        assert b"".join(body.data for body in parts) == data[offset:]
        assert parts[0].content_type == "application/octet-stream"
    request = result_pb2.DownloadArtifactRequest(artifact=f"{job.name}/artifacts/best", read_offset=2**40)
    with pytest.raises(grpc.aio.AioRpcError) as past:
        await anext(aiter(mesh.results.DownloadArtifact(request)))
    assert past.value.code() is grpc.StatusCode.OUT_OF_RANGE
    target = await mesh.client.job(job.name).download("best", mesh.folder / "copy.pt")
    assert target.read_bytes() == data


async def test_an_object_that_is_gone_is_not_found(mesh: Any, a_train: MakeTrain, framework: str) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        _assignment, _stream = await runner.start()
        await publish(runner, job.name, 1, "best", b"weights")
        (mesh.folder / "artifacts/attempts" / job.name[5:] / "1/best.pt").unlink()
        request = result_pb2.DownloadArtifactRequest(artifact=f"{job.name}/artifacts/best")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in mesh.results.DownloadArtifact(request):
                pass
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_dataset_of_a_job_is_remembered_by_its_digest(
    mesh: Any, a_train: MakeTrain, dataset: dataset_pb2.Dataset, framework: str
) -> None:
    job = await mesh.create(a_train())
    async with mesh.runner(framework) as runner:
        await runner.run()
    done = await mesh.get(job.name)
    assert done.reproducibility.dataset_digest == dataset.digest
    assert done.reproducibility.seed == 7


class TestLeases:
    """Runners that go silent; each test has a scheduler of its own with short times."""

    pytestmark = pytest.mark.asyncio(loop_scope="function")

    @pytest.fixture
    def job(self) -> job_pb2.Job:
        images = job_pb2.ImageSource(upload="uploads/none")
        spec = job_pb2.DetectFacesSpec(images=images)
        return job_pb2.Job(framework="faces", detect_faces=spec, retry_policy=AT_ONCE)

    @staticmethod
    async def create(mesh: Any, job: job_pb2.Job) -> job_pb2.Job:
        upload = await mesh.upload("face.jpg", b"picture")
        job.detect_faces.images.upload = upload.name
        return await mesh.create(job)

    async def test_a_silent_runners_job_runs_elsewhere(self, start_mesh: Any, job: job_pb2.Job) -> None:
        async with start_mesh(lease_seconds=0.5, heartbeat_seconds=0.1) as mesh:
            made = await self.create(mesh, job)
            async with mesh.runner("faces") as first:
                _assignment, stream = await first.start()
                await first.vanish()
                async with mesh.runner("faces") as second:
                    assignment = await second.take()
                    assert (assignment.job.name, assignment.attempt) == (made.name, 2)
                    stale = await _refused(second.progress(made.name, 1))
                    assert stale.reason == Reason.ATTEMPT_SUPERSEDED
                stream.close()
            lost = await mesh.get(made.name)
            assert attempt_states(lost)[0] == ("LOST", "RUNNER_LOST")
            assert lost.failure_count == 1

    async def test_a_live_runner_keeps_its_job_beyond_many_leases(
        self, start_mesh: Any, job: job_pb2.Job
    ) -> None:
        async with start_mesh(lease_seconds=0.4, heartbeat_seconds=0.1) as mesh:
            made = await self.create(mesh, job)
            async with mesh.runner("faces") as runner:
                _assignment, stream = await runner.start()
                for _ in range(12):
                    async with asyncio.timeout(PATIENCE):
                        beat = await runner.beats.get()
                    assert not beat.kill
                await stream.send(ended())
            assert len((await mesh.get(made.name)).attempts) == 1

    async def test_what_two_heartbeats_do_not_name_is_given_up(
        self, start_mesh: Any, job: job_pb2.Job
    ) -> None:
        async with start_mesh(heartbeat_seconds=60, lease_seconds=120) as mesh:  # it beats when it is told to
            made = await self.create(mesh, job)
            async with mesh.runner("faces") as runner:
                assignment, stream = await runner.start()
                held = {(assignment.job.name, assignment.attempt)}
                for named in (set(), held, set(), set()):
                    assert attempt_states(await mesh.get(made.name))[0][0] == "RUNNING"
                    runner.holds = named
                    await runner.beat()
                    async with asyncio.timeout(PATIENCE):
                        await runner.beats.get()
                assert (await runner.take()).attempt == 2
                stream.close()
            assert attempt_states(await mesh.get(made.name))[0] == ("LOST", "RUNNER_LOST")

    async def test_an_unanswered_assignment_is_taken_back(self, start_mesh: Any, job: job_pb2.Job) -> None:
        async with start_mesh(assignment_seconds=0.2) as mesh:
            made = await self.create(mesh, job)
            async with mesh.runner("faces") as runner:
                assert (await runner.next_assignment()).attempt == 1
                assert (await runner.take()).attempt == 2
            taken = await mesh.get(made.name)
            assert (attempt_states(taken)[0], taken.failure_count) == (("LOST", "NOT_ACCEPTED"), 0)

    async def test_a_runner_that_comes_back_with_its_attempts_keeps_them(
        self, start_mesh: Any, job: job_pb2.Job
    ) -> None:
        async with start_mesh() as mesh:
            made = await self.create(mesh, job)
            async with mesh.runner("faces", runner_id="r") as runner:
                await runner.start()
                await runner.vanish()
            async with mesh.runner("faces", runner_id="r", attempts=[(made.name, 1), ("jobs/x", 1)]) as back:
                assert [(ref.job, ref.attempt) for ref in back.registered.keep] == [(made.name, 1)]
                stream = await back.progress(made.name, 1)
                assert stream.number == 1
                await stream.send(ended())
            assert len((await mesh.get(made.name)).attempts) == 1

    async def test_coming_back_with_an_attempt_is_taking_it(self, start_mesh: Any, job: job_pb2.Job) -> None:
        async with start_mesh(assignment_seconds=0.2) as mesh:
            made = await self.create(mesh, job)
            async with mesh.runner("faces", runner_id="r") as runner:
                await runner.next_assignment()
                await runner.vanish()  # the answer is lost with the connection
            async with mesh.runner("faces", runner_id="r", attempts=[(made.name, 1)]) as back:
                held = await mesh.get(made.name)
                assert attempt_states(held) == [("PREPARING", "UNSPECIFIED")]
                assert len(back.registered.keep) == 1

    async def test_a_restarted_runner_loses_what_it_does_not_name(
        self, start_mesh: Any, job: job_pb2.Job
    ) -> None:
        async with start_mesh() as mesh:
            made = await self.create(mesh, job)
            async with mesh.runner("faces", runner_id="r") as runner:
                await runner.start()
                await runner.vanish()
            async with mesh.runner("faces", runner_id="r", incarnation="incarnation-2") as fresh:
                assert (await fresh.take()).attempt == 2
            assert attempt_states(await mesh.get(made.name))[0] == ("LOST", "RUNNER_LOST")

    async def test_a_beat_with_a_lost_attempt_is_told_to_kill_it(
        self, start_mesh: Any, job: job_pb2.Job
    ) -> None:
        async with start_mesh() as mesh:
            await self.create(mesh, job)
            async with mesh.runner("faces") as runner:
                runner.holds.add(("jobs/long-gone", 3))
                await runner.beat()
                async with asyncio.timeout(PATIENCE):
                    beat = await runner.beats.get()
                assert [(ref.job, ref.attempt) for ref in beat.kill] == [("jobs/long-gone", 3)]


async def _refused(call: Any) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value
