"""A watch tells each event once and in order, however often it is cut."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from google.rpc import code_pb2
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.client import AsyncClient, JobFailed
from visionmesh.client._resume import Backoff
from visionmesh.errors import MeshError, Reason
from visionmesh.v1 import (
    job_pb2,
    job_pb2_grpc,
    progress_pb2,
    progress_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    vision_pb2,
)

SLOW = MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.SLOW_CONSUMER, "read faster, then resume")
AWAY = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "the database is away")


class Mesh(
    job_pb2_grpc.JobServiceServicer,
    progress_pb2_grpc.ProgressServiceServicer,
    result_pb2_grpc.ResultServiceServicer,
):
    """Watches of a finished history; stream number n ends after `cuts[n]` messages as told there."""

    def __init__(self, length: int, cuts: list[tuple[int, MeshError | grpc.StatusCode]]) -> None:
        self.length, self.cuts = length, list(cuts)
        self.positions: list[object] = []
        self.repeat = 0
        self.endless = False
        self.left = asyncio.Event()

    async def _stream(self, after, context, message):
        count, failure = self.cuts.pop(0) if self.cuts else (self.length + 1, None)
        for sequence in range(max(1, after + 1 - self.repeat), self.length + 1):
            if count == 0:
                break
            count -= 1
            yield message(sequence)
        else:
            if self.endless:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.set()
            if failure is None:
                return
        if isinstance(failure, MeshError):
            status = rpc_status.to_status(errors.status_of(failure))
            context.set_trailing_metadata(status.trailing_metadata)
            await context.abort(status.code, status.details)
        await context.abort(failure, "cut")

    async def WatchProgress(self, request, context):  # noqa: N802
        self.positions.append(request.after_sequence)

        def message(sequence: int) -> progress_pb2.WatchProgressResponse:
            if sequence % 5 == 0:
                return progress_pb2.WatchProgressResponse(bookmark=vision_pb2.Bookmark(sequence=sequence))
            event = progress_pb2.JobEvent(sequence=sequence, job=request.job)
            return progress_pb2.WatchProgressResponse(event=event)

        async for response in self._stream(request.after_sequence, context, message):
            yield response

    async def WatchPredictions(self, request, context):  # noqa: N802
        self.positions.append(request.after_sequence)

        def message(sequence: int) -> result_pb2.WatchPredictionsResponse:
            prediction = result_pb2.ImagePrediction(index=sequence * 10)
            return result_pb2.WatchPredictionsResponse(sequence=sequence, prediction=prediction)

        async for response in self._stream(request.after_sequence, context, message):
            yield response

    async def WatchJobs(self, request, context):  # noqa: N802
        self.positions.append(request.resume_token)

        def message(number: int) -> job_pb2.WatchJobsResponse:
            return job_pb2.WatchJobsResponse(
                resume_token=f"t{number}", job=job_pb2.Job(name=f"jobs/j{number}")
            )

        after = int(request.resume_token.removeprefix("t") or 0)
        async for response in self._stream(after, context, message):
            yield response

    async def GetJob(self, request, context):  # noqa: N802
        state = vision_pb2.JOB_STATE_RUNNING if self.endless else vision_pb2.JOB_STATE_SUCCEEDED
        return job_pb2.Job(name=request.name, state=state)

    async def ListJobs(self, request, context):  # noqa: N802
        page = int(request.page_token or 0)
        jobs = [job_pb2.Job(name=f"jobs/{request.filter}{page}{letter}") for letter in "ab"]
        return job_pb2.ListJobsResponse(jobs=jobs, next_page_token=str(page + 1) if page < 2 else "")


@asynccontextmanager
async def serving(mesh: Mesh, reconnect_timeout: float = 60) -> AsyncIterator[AsyncClient]:
    server = grpc.aio.server()
    job_pb2_grpc.add_JobServiceServicer_to_server(mesh, server)
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(mesh, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(mesh, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{port}", reconnect_timeout=reconnect_timeout) as client:
            yield client
    finally:
        await server.stop(None)


INTERRUPTIONS = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    SLOW,
    AWAY,
]


@pytest.mark.parametrize(
    "failure", INTERRUPTIONS, ids=lambda f: f"mesh {f.reason}" if isinstance(f, MeshError) else f.name
)
async def test_each_event_comes_once_and_in_order_over_cut_streams(
    failure: MeshError | grpc.StatusCode,
) -> None:
    mesh = Mesh(12, [(3, failure), (0, failure), (4, failure)])
    async with serving(mesh) as client:
        seen = [event.sequence async for event in client.job("x").watch()]
    assert seen == [n for n in range(1, 13) if n % 5]
    assert mesh.positions == [0, 3, 3, 7]


async def test_a_server_that_repeats_itself_is_not_repeated() -> None:
    mesh = Mesh(9, [(4, AWAY), (4, AWAY)])
    mesh.repeat = 2
    async with serving(mesh) as client:
        seen = [event.sequence async for event in client.job("x").watch()]
    assert seen == [1, 2, 3, 4, 6, 7, 8, 9]


async def test_a_watch_begins_after_the_sequence_it_is_given() -> None:
    mesh = Mesh(9, [])
    async with serving(mesh) as client:
        assert [event.sequence async for event in client.job("x").watch(after_sequence=6)] == [7, 8, 9]


async def test_a_bookmark_moves_the_position_on() -> None:
    mesh = Mesh(8, [(5, SLOW)])
    async with serving(mesh) as client:
        assert [event.sequence async for event in client.job("x").watch()] == [1, 2, 3, 4, 6, 7, 8]
    assert mesh.positions == [0, 5]


REFUSALS = [
    errors.not_found("job", "jobs/x"),
    MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.MESSAGE_TOO_LARGE, "too large"),
    MeshError(grpc.StatusCode.INTERNAL, Reason.INTERNAL, "a defect, id 7"),
    MeshError(grpc.StatusCode.PERMISSION_DENIED, Reason.PERMISSION_DENIED, "not yours"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: r.reason)
async def test_what_another_try_would_not_mend_is_raised(refusal: MeshError) -> None:
    mesh = Mesh(9, [(2, refusal)])
    seen: list[int] = []

    async def look(client: AsyncClient) -> None:
        async for event in client.job("x").watch():
            seen.append(event.sequence)  # noqa: PERF401 - what came before the error counts

    async with serving(mesh) as client:
        with pytest.raises(MeshError) as raised:
            await look(client)
    assert raised.value == refusal
    assert seen == [1, 2]


async def test_an_outage_longer_than_the_reconnect_timeout_is_raised() -> None:
    mesh = Mesh(9, [(1, AWAY)] + [(0, AWAY)] * 1000)
    async with serving(mesh, reconnect_timeout=0.3) as client:
        with pytest.raises(MeshError, match="database is away"):
            async for _ in client.job("x").watch():
                pass
    assert len(mesh.positions) > 1


async def test_a_mesh_that_never_answered_is_reported_at_once() -> None:
    mesh = Mesh(9, [(0, AWAY)] * 1000)
    async with serving(mesh) as client:
        with pytest.raises(MeshError, match="database is away"):
            await anext(client.job("x").watch())
    assert len(mesh.positions) == 1


async def test_predictions_resume_by_sequence() -> None:
    mesh = Mesh(6, [(2, AWAY), (1, SLOW)])
    async with serving(mesh) as client:
        seen = [(number, image.index) async for number, image in client.job("x").watch_predictions()]
    assert seen == [(n, n * 10) for n in range(1, 7)]
    assert mesh.positions == [0, 2, 3]


async def test_watching_jobs_resumes_by_token() -> None:
    mesh = Mesh(5, [(2, AWAY)])
    async with serving(mesh) as client:
        seen = [response.job.name async for response in client.watch_jobs()]
    assert seen == [f"jobs/j{n}" for n in range(1, 6)]
    assert mesh.positions == ["", "t2"]


async def test_leaving_a_watch_ends_it_at_the_server() -> None:
    mesh = Mesh(3, [])
    mesh.endless = True
    async with serving(mesh) as client:
        async with aclosing(client.job("x").watch()) as events:
            assert (await anext(events)).sequence == 1
            assert (await anext(events)).sequence == 2
        async with asyncio.timeout(10):
            await mesh.left.wait()


async def test_wait_returns_the_job_as_it_ended() -> None:
    async with serving(Mesh(3, [(1, AWAY)])) as client:
        job = await client.job("x").wait(timeout=10)
    assert job.state == vision_pb2.JOB_STATE_SUCCEEDED


async def test_a_checked_wait_raises_what_the_job_failed_of(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(3, [])
    error = errors.status(code_pb2.INTERNAL, Reason.FRAMEWORK_ERROR, "the loss is not a number")
    failed = job_pb2.Job(name="jobs/x", state=vision_pb2.JOB_STATE_FAILED, error=error)

    async def get_job(request, context):
        return failed

    monkeypatch.setattr(mesh, "GetJob", get_job)
    async with serving(mesh) as client:
        assert await client.job("x").wait() == failed
        with pytest.raises(JobFailed, match="jobs/x failed: the loss is not a number") as raised:
            await client.job("x").wait(check=True)
    assert (raised.value.job, raised.value.reason) == (failed, Reason.FRAMEWORK_ERROR)


async def test_wait_gives_up_with_deadline_exceeded() -> None:
    mesh = Mesh(3, [])
    mesh.endless = True
    async with serving(mesh) as client:
        with pytest.raises(MeshError) as raised:
            await client.job("x").wait(timeout=0.05)
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "jobs/x" in raised.value.message


async def test_lists_go_through_all_pages() -> None:
    async with serving(Mesh(0, [])) as client:
        names = [job.name async for job in client.list_jobs(filter="f")]
    assert names == [f"jobs/f{page}{letter}" for page in range(3) for letter in "ab"]


def test_backoff_grows_is_bounded_and_begins_again_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("visionmesh.client._resume.random.uniform", lambda low, high: high)
    backoff = Backoff(patience=60)
    delays = [backoff.delay(AWAY, now=0) for _ in range(6)]
    delays += [backoff.delay(AWAY, now=20) for _ in range(5)]  # longer than a restart takes
    backoff.reset()
    delays.append(backoff.delay(AWAY, now=20))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 2.0, 4.0, 5.0, 5.0, 0.1]


def test_backoff_spreads_a_crowd_over_all_of_the_wait() -> None:
    crowd = [Backoff(patience=60) for _ in range(1000)]
    for backoff in crowd:
        for _ in range(5):
            backoff.delay(AWAY, now=0)
    tenths = Counter(int(backoff.delay(AWAY, now=1) * 10) for backoff in crowd)
    assert sorted(tenths) == list(range(10))
    assert max(tenths.values()) < 200


def test_backoff_adds_the_delay_that_the_mesh_asks_for_and_gives_up_when_patience_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("visionmesh.client._resume.random.uniform", lambda low, high: high)
    asks = replace(AWAY, retry_delay=timedelta(seconds=7))
    backoff = Backoff(patience=10)
    assert backoff.delay(asks, now=100) == pytest.approx(7.1)
    with pytest.raises(MeshError) as raised:
        backoff.delay(asks, now=104)
    assert raised.value is asks
