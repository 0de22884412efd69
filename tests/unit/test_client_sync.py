"""The synchronous client against a channel with nothing behind it but the test."""

import hashlib
import inspect
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue

import grpc
import grpc_testing
import pytest
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from google.rpc import code_pb2
from grpc_status import rpc_status

from visionmesh import errors
from visionmesh.client import AsyncClient, AsyncJobHandle, Client, JobFailed, JobHandle
from visionmesh.errors import MeshError, Reason, Violation
from visionmesh.v1 import dataset_pb2, job_pb2, progress_pb2, result_pb2, runner_pb2, vision_pb2

PATIENCE = 10.0
"""Seconds after which what a test waits for has failed to come."""

SERVICES = {
    service.name: service
    for file in (job_pb2, progress_pb2, result_pb2, runner_pb2, dataset_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
}
SOON = MeshError(grpc.StatusCode.UNAVAILABLE, Reason.UNAVAILABLE, "the database is away")
OK = grpc.StatusCode.OK
CONTENT = bytes(range(256)) * 4


def method(name: str):
    service, rpc = name.split(".")
    return SERVICES[service].methods_by_name[rpc]


class Wire:
    """A client on a fake channel, and the other end of it."""

    def __init__(self) -> None:
        self.channel = grpc_testing.channel(SERVICES.values(), grpc_testing.strict_fake_time(0))
        self.client = Client("mesh.example:7", channel=self.channel)
        self._threads = ThreadPoolExecutor(8)

    def start(self, work: Callable[..., object], *arguments: object) -> Future:
        """Do `work` in a thread."""
        return self._threads.submit(work, *arguments)

    def unary(self, name: str):
        """The request of the next such call, and its other end."""
        _, request, call = self.start(self.channel.take_unary_unary, method(name)).result(PATIENCE)
        return request, call

    def stream(self, name: str):
        """The request of the next such stream, and its other end."""
        _, request, call = self.start(self.channel.take_unary_stream, method(name)).result(PATIENCE)
        return request, call

    def upload(self):
        """The other end of the next upload, with what has come until it was closed."""
        _, call = self.start(self.channel.take_stream_unary, method("DatasetService.UploadFile")).result(
            PATIENCE
        )
        self.start(call.requests_closed).result(PATIENCE)
        return call

    def answer(self, name: str, response: object) -> object:
        """Answer the next such call; returns its request."""
        request, call = self.unary(name)
        call.terminate(response, (), OK, "")
        return request

    def refuse(self, name: str, error: MeshError) -> object:
        """Refuse the next such call as the mesh would; returns its request."""
        request, call = self.unary(name)
        status = rpc_status.to_status(errors.status_of(error))
        call.terminate(None, status.trailing_metadata, status.code, status.details)
        return request


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    # No wait before a stream is opened again.
    monkeypatch.setattr("visionmesh.client._resume.random.uniform", lambda low, high: 0.0)
    return Wire()


JOB = job_pb2.Job(name="jobs/x", display_name="night run")
DATASET = dataset_pb2.Dataset(name="datasets/shapes")
RUNNER = runner_pb2.Runner(name="runners/r")
SUMMARY = result_pb2.Result(name="jobs/x/result")
EXPLANATION = job_pb2.ExplainJobResponse(summary="it waits")

UNARY = {
    "Client.dataset": (
        lambda client: client.dataset("shapes"),
        "DatasetService.GetDataset",
        dataset_pb2.GetDatasetRequest(name="datasets/shapes"),
        DATASET,
        DATASET,
    ),
    "Client.delete_dataset": (
        lambda client: client.delete_dataset("datasets/shapes"),
        "DatasetService.DeleteDataset",
        dataset_pb2.DeleteDatasetRequest(name="datasets/shapes"),
        empty_pb2.Empty(),
        None,
    ),
    "Client.runner": (
        lambda client: client.runner("r"),
        "RunnerService.GetRunner",
        runner_pb2.GetRunnerRequest(name="runners/r"),
        RUNNER,
        RUNNER,
    ),
    "Client.drain_runner": (
        lambda client: client.drain_runner("r"),
        "RunnerService.DrainRunner",
        runner_pb2.DrainRunnerRequest(name="runners/r"),
        RUNNER,
        RUNNER,
    ),
    "Client.undrain_runner": (
        lambda client: client.undrain_runner("runners/r"),
        "RunnerService.UndrainRunner",
        runner_pb2.UndrainRunnerRequest(name="runners/r"),
        RUNNER,
        RUNNER,
    ),
    "JobHandle.get": (
        lambda client: client.job("x").get(),
        "JobService.GetJob",
        job_pb2.GetJobRequest(name="jobs/x"),
        JOB,
        JOB,
    ),
    "JobHandle.delete": (
        lambda client: client.job("jobs/x").delete(),
        "JobService.DeleteJob",
        job_pb2.DeleteJobRequest(name="jobs/x"),
        empty_pb2.Empty(),
        None,
    ),
    "JobHandle.explain": (
        lambda client: client.job("x").explain(),
        "JobService.ExplainJob",
        job_pb2.ExplainJobRequest(name="jobs/x"),
        EXPLANATION,
        EXPLANATION,
    ),
    "JobHandle.result": (
        lambda client: client.job("x").result(),
        "ResultService.GetResult",
        result_pb2.GetResultRequest(name="jobs/x/result"),
        SUMMARY,
        SUMMARY,
    ),
}


@pytest.mark.parametrize(("call", "name", "request_", "response", "returned"), UNARY.values(), ids=UNARY)
def test_a_call_asks_and_returns(wire: Wire, call, name, request_, response, returned) -> None:
    result = wire.start(call, wire.client)
    assert wire.answer(name, response) == request_
    assert result.result(PATIENCE) == returned


def test_cancel_carries_the_grace_period_and_keeps_what_it_saw(wire: Wire) -> None:
    handle = wire.client.job("x")
    result = wire.start(handle.cancel, timedelta(seconds=5))
    request = wire.answer("JobService.CancelJob", JOB)
    assert result.result(PATIENCE) == handle.latest == JOB
    assert (request.name, request.grace_period.seconds) == ("jobs/x", 5)
    result = wire.start(handle.cancel)
    assert not wire.answer("JobService.CancelJob", JOB).HasField("grace_period")


def test_creating_a_job_returns_its_handle(wire: Wire) -> None:
    result = wire.start(wire.client.create_job, job_pb2.Job(display_name="night run"))
    request = wire.answer("JobService.CreateJob", JOB)
    handle = result.result(PATIENCE)
    assert (handle.name, handle.latest) == ("jobs/x", JOB)
    assert request.job.display_name == "night run"
    assert request.request_id
    wire.start(wire.client.create_job, JOB, "mine", True)
    request = wire.answer("JobService.CreateJob", JOB)
    assert (request.request_id, request.validate_only) == ("mine", True)


def test_retrying_a_job_returns_the_handle_of_the_new_one(wire: Wire) -> None:
    result = wire.start(wire.client.job("old").retry)
    request = wire.answer("JobService.RetryJob", JOB)
    assert (request.name, bool(request.request_id)) == ("jobs/old", True)
    assert result.result(PATIENCE).name == "jobs/x"


EVENTS = [progress_pb2.JobEvent(sequence=number) for number in (4, 5, 6)]
EPOCHS = [progress_pb2.EpochMetrics(sequence=number) for number in (1, 2, 3)]
IMAGES = [result_pb2.ImagePrediction(index=number) for number in (0, 1, 2)]
FILES = [result_pb2.Artifact(name=f"jobs/x/artifacts/{name}") for name in ("best", "last", "log")]
JOBS = [job_pb2.Job(name=f"jobs/{name}") for name in "abc"]
DATASETS = [dataset_pb2.Dataset(name=f"datasets/{name}") for name in "abc"]
MEDIA = [dataset_pb2.MediaItem(id=name) for name in "abc"]
RUNNERS = [runner_pb2.Runner(name=f"runners/{name}") for name in "abc"]

LISTS = {
    "Client.list_jobs": (
        lambda client: client.list_jobs("kind = train", "priority", 2),
        "JobService.ListJobs",
        job_pb2.ListJobsRequest(filter="kind = train", order_by="priority", page_size=2),
        job_pb2.ListJobsResponse,
        "jobs",
        JOBS,
    ),
    "Client.list_datasets": (
        lambda client: client.list_datasets(),
        "DatasetService.ListDatasets",
        dataset_pb2.ListDatasetsRequest(page_size=500),
        dataset_pb2.ListDatasetsResponse,
        "datasets",
        DATASETS,
    ),
    "Client.list_media_items": (
        lambda client: client.list_media_items(dataset_pb2.MEDIA_ITEM_STATE_GONE, ["a", "c"]),
        "DatasetService.ListMediaItems",
        dataset_pb2.ListMediaItemsRequest(
            page_size=500, state=dataset_pb2.MEDIA_ITEM_STATE_GONE, ids=["a", "c"]
        ),
        dataset_pb2.ListMediaItemsResponse,
        "items",
        MEDIA,
    ),
    "Client.list_runners": (
        lambda client: client.list_runners(),
        "RunnerService.ListRunners",
        runner_pb2.ListRunnersRequest(page_size=500),
        runner_pb2.ListRunnersResponse,
        "runners",
        RUNNERS,
    ),
    "JobHandle.events": (
        lambda client: client.job("x").events(3),
        "JobService.ListJobEvents",
        job_pb2.ListJobEventsRequest(parent="jobs/x", after_sequence=3, page_size=500),
        job_pb2.ListJobEventsResponse,
        "events",
        EVENTS,
    ),
    "JobHandle.metrics": (
        lambda client: client.job("x").metrics(),
        "ProgressService.ListMetrics",
        progress_pb2.ListMetricsRequest(parent="jobs/x", page_size=500),
        progress_pb2.ListMetricsResponse,
        "epochs",
        EPOCHS,
    ),
    "JobHandle.predictions": (
        lambda client: client.job("x").predictions(),
        "ResultService.ListPredictions",
        result_pb2.ListPredictionsRequest(parent="jobs/x", page_size=500),
        result_pb2.ListPredictionsResponse,
        "predictions",
        IMAGES,
    ),
    "JobHandle.artifacts": (
        lambda client: client.job("x").artifacts(),
        "ResultService.ListArtifacts",
        result_pb2.ListArtifactsRequest(parent="jobs/x", page_size=500),
        result_pb2.ListArtifactsResponse,
        "artifacts",
        FILES,
    ),
}


@pytest.mark.parametrize(
    ("listing", "name", "request_", "response", "field", "items"), LISTS.values(), ids=LISTS
)
def test_a_list_goes_through_all_pages(wire: Wire, listing, name, request_, response, field, items) -> None:
    result = wire.start(lambda: list(listing(wire.client)))
    assert wire.answer(name, response(**{field: items[:2]}, next_page_token="more")) == request_
    request_ = type(request_).FromString(request_.SerializeToString())
    request_.page_token = "more"
    assert wire.answer(name, response(**{field: items[2:]})) == request_
    assert result.result(PATIENCE) == items


def test_pages_are_fetched_only_as_they_are_wanted(wire: Wire) -> None:
    jobs = wire.client.list_jobs()
    first = wire.start(next, jobs)
    wire.answer("JobService.ListJobs", job_pb2.ListJobsResponse(jobs=JOBS, next_page_token="more"))
    assert first.result(PATIENCE) == JOBS[0]
    assert list(itertools.islice(jobs, 2)) == JOBS[1:]  # nobody answers another request


def refuse_size(wire: Wire, name: str, size: int) -> int:
    """Refuse an answer as gRPC itself does; returns the page size that was asked for."""
    request, call = wire.unary(name)
    said = f"CLIENT: Received message larger than max ({size} vs. 67108864)"
    call.terminate(None, (), grpc.StatusCode.RESOURCE_EXHAUSTED, said)
    return request.page_size


def test_too_large_a_page_is_asked_for_again_in_half_the_size(wire: Wire) -> None:
    result = wire.start(lambda: list(wire.client.job("x").predictions()))
    name = "ResultService.ListPredictions"
    assert [refuse_size(wire, name, 90_000_000) for _ in range(2)] == [500, 250]
    first = result_pb2.ListPredictionsResponse(predictions=IMAGES[:2], next_page_token="more")
    assert wire.answer(name, first).page_size == 125
    rest = wire.answer(name, result_pb2.ListPredictionsResponse(predictions=IMAGES[2:]))
    assert (rest.page_size, rest.page_token) == (125, "more")
    assert result.result(PATIENCE) == IMAGES


def test_one_item_that_is_too_large_is_an_error_and_no_loop(wire: Wire) -> None:
    result = wire.start(lambda: list(wire.client.job("x").predictions()))
    sizes = [refuse_size(wire, "ResultService.ListPredictions", 90_000_000) for _ in range(9)]
    assert sizes == [500, 250, 125, 62, 31, 15, 7, 3, 1]
    with pytest.raises(errors.TooLarge, match="90000000 bytes, and at most 67108864") as raised:
        result.result(PATIENCE)
    assert raised.value.metadata == {"size_bytes": "90000000", "limit_bytes": "67108864"}


def test_a_request_that_is_too_large_says_what_to_do(wire: Wire) -> None:
    result = wire.start(wire.client.create_job, JOB)
    _, call = wire.unary("JobService.CreateJob")
    said = "SERVER: Received message larger than max (41943119 vs. 33554432)"
    call.terminate(None, (), grpc.StatusCode.RESOURCE_EXHAUSTED, said)
    with pytest.raises(errors.TooLarge, match=r"41943119 bytes.*upload the files") as raised:
        result.result(PATIENCE)
    assert raised.value.reason is Reason.MESSAGE_TOO_LARGE


def collect(stream: Iterator[object], seen: SimpleQueue) -> None:
    for item in stream:
        seen.put(item)


class Watch:
    """A watch that a thread follows."""

    def __init__(self, wire: Wire, stream: Iterator[object]) -> None:
        self._seen: SimpleQueue = SimpleQueue()
        self.ended = wire.start(collect, stream, self._seen)

    def next(self) -> object:
        return self._seen.get(timeout=PATIENCE)


def event(sequence: int) -> progress_pb2.WatchProgressResponse:
    return progress_pb2.WatchProgressResponse(event=progress_pb2.JobEvent(sequence=sequence))


WATCH = "ProgressService.WatchProgress"


def test_a_watch_goes_on_after_the_last_event_that_it_saw(wire: Wire) -> None:
    watch = Watch(wire, wire.client.job("x").watch())
    request, stream = wire.stream(WATCH)
    assert request == progress_pb2.WatchProgressRequest(job="jobs/x")
    stream.send_response(event(1))
    stream.send_response(event(2))
    assert [watch.next().sequence for _ in range(2)] == [1, 2]
    stream.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")

    request, stream = wire.stream(WATCH)
    assert request.after_sequence == 2
    stream.send_response(event(2))  # told already
    stream.send_response(progress_pb2.WatchProgressResponse(bookmark=vision_pb2.Bookmark(sequence=6)))
    stream.send_response(event(7))
    assert watch.next().sequence == 7
    status = rpc_status.to_status(errors.status_of(SOON))
    stream.terminate(status.trailing_metadata, status.code, status.details)

    request, stream = wire.stream(WATCH)
    assert request.after_sequence == 7
    stream.terminate((), OK, "")
    assert watch.ended.result(PATIENCE) is None


@pytest.mark.parametrize(
    "code",
    ["UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"],
)
def test_what_a_proxy_ends_is_opened_again(wire: Wire, code: str) -> None:
    watch = Watch(wire, wire.client.job("x").watch(after_sequence=3))
    _, stream = wire.stream(WATCH)
    stream.send_response(event(4))
    watch.next()
    stream.terminate((), grpc.StatusCode[code], "a proxy")
    request, stream = wire.stream(WATCH)
    assert request.after_sequence == 4
    stream.terminate((), OK, "")
    assert watch.ended.result(PATIENCE) is None


def test_a_mesh_that_never_answered_is_reported_at_once(wire: Wire) -> None:
    watch = Watch(wire, wire.client.job("x").watch())
    _, stream = wire.stream(WATCH)
    stream.terminate((), grpc.StatusCode.UNAVAILABLE, "nobody")
    with pytest.raises(errors.Unavailable, match=r"No scheduler answers at mesh\.example:7"):
        watch.ended.result(PATIENCE)


def test_leaving_a_watch_cancels_it(wire: Wire) -> None:
    watch = wire.client.job("x").watch()
    first = wire.start(next, watch)
    _, stream = wire.stream(WATCH)
    stream.send_response(event(1))
    assert first.result(PATIENCE).sequence == 1
    watch.close()
    wire.start(stream.cancelled).result(PATIENCE)


def test_predictions_resume_by_sequence(wire: Wire) -> None:
    watch = Watch(wire, wire.client.job("x").watch_predictions(2))
    name = "ResultService.WatchPredictions"
    request, stream = wire.stream(name)
    assert request == result_pb2.WatchPredictionsRequest(job="jobs/x", after_sequence=2)
    stream.send_response(result_pb2.WatchPredictionsResponse(sequence=3, prediction=IMAGES[1]))
    assert watch.next() == (3, IMAGES[1])
    stream.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
    request, stream = wire.stream(name)
    assert request.after_sequence == 3
    stream.terminate((), OK, "")
    assert watch.ended.result(PATIENCE) is None


def test_watching_jobs_resumes_by_token(wire: Wire) -> None:
    watch = Watch(wire, wire.client.watch_jobs("state = RUNNING"))
    request, stream = wire.stream("JobService.WatchJobs")
    assert request == job_pb2.WatchJobsRequest(filter="state = RUNNING")
    told = job_pb2.WatchJobsResponse(resume_token="t1", job=JOB)
    stream.send_response(told)
    assert watch.next() == told
    stream.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
    request, stream = wire.stream("JobService.WatchJobs")
    assert (request.filter, request.resume_token) == ("state = RUNNING", "t1")
    stream.terminate((), OK, "")
    assert watch.ended.result(PATIENCE) is None


def ended(state: str, **fields: object) -> job_pb2.Job:
    return job_pb2.Job(name="jobs/x", state=f"JOB_STATE_{state}", **fields)


RUNS = job_pb2.Job(name="jobs/x", state="JOB_STATE_RUNNING", sequence=7)


def waiting(wire: Wire, job: job_pb2.Job, **options: object) -> Future:
    """A wait for a job that runs, with seven events, and then ends at once as told."""
    result = wire.start(lambda: wire.client.job("x").wait(**options))
    wire.answer("JobService.GetJob", RUNS)
    request, stream = wire.stream(WATCH)
    assert request.after_sequence == 7  # what was is not what is waited for
    stream.send_response(event(8))
    stream.terminate((), OK, "")
    wire.answer("JobService.GetJob", job)
    return result


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_wait_returns_the_job_however_it_ended(wire: Wire, state: str) -> None:
    assert waiting(wire, ended(state)).result(PATIENCE) == ended(state)
    assert waiting(wire, ended(state), timeout=60).result(PATIENCE) == ended(state)


def test_wait_for_a_job_that_has_ended_asks_once(wire: Wire) -> None:
    result = wire.start(lambda: wire.client.job("x").wait())
    wire.answer("JobService.GetJob", ended("SUCCEEDED"))
    assert result.result(PATIENCE) == ended("SUCCEEDED")


def test_a_checked_wait_raises_what_the_job_failed_of(wire: Wire) -> None:
    said = errors.status(
        code_pb2.RESOURCE_EXHAUSTED, Reason.OUT_OF_MEMORY, "the GPU is full: halve it", gpu="0"
    )
    failed = ended("FAILED", error=said)
    with pytest.raises(JobFailed, match="jobs/x failed: the GPU is full: halve it") as raised:
        waiting(wire, failed, check=True).result(PATIENCE)
    error = raised.value
    assert (error.job, error.reason, error.metadata) == (failed, Reason.OUT_OF_MEMORY, {"gpu": "0"})
    assert waiting(wire, ended("SUCCEEDED"), check=True).result(PATIENCE) == ended("SUCCEEDED")


def test_a_checked_wait_tells_a_cancelled_job_from_a_failed_one(wire: Wire) -> None:
    with pytest.raises(JobFailed, match="jobs/x was cancelled") as raised:
        waiting(wire, ended("CANCELLED"), check=True).result(PATIENCE)
    assert raised.value.reason is Reason.JOB_CANCELLED


def test_wait_gives_up_when_its_time_is_over(wire: Wire) -> None:
    result = wire.start(lambda: wire.client.job("x").wait(timeout=0))
    wire.answer("JobService.GetJob", RUNS)
    _, stream = wire.stream(WATCH)
    stream.terminate((), grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    with pytest.raises(TimeoutError, match="jobs/x has not ended within 0 s; it goes on") as raised:
        result.result(PATIENCE)
    assert isinstance(raised.value, errors.TimedOut)


FAILURES = [code for code in grpc.StatusCode if code is not OK]


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_each_code_from_the_mesh_arrives_with_everything_it_said(wire: Wire, code: grpc.StatusCode) -> None:
    said = MeshError(
        code,
        Reason.BAD_FILTER,
        "what, why, next",
        {"key": "value"},
        (Violation("job.train.epochs", "is 0; at least 1"),),
        timedelta(seconds=3),
    )
    result = wire.start(wire.client.job("x").get)
    wire.refuse("JobService.GetJob", said)
    with pytest.raises(MeshError) as raised:
        result.result(PATIENCE)
    assert raised.value == said


def upload(wire: Wire, content: bytes, name: str = "model.pt") -> str:
    """Take an upload in; returns the file's name."""
    call = wire.upload()
    header = call.take_request().header
    received = b""
    while len(received) < header.size_bytes:
        received += call.take_request().chunk
    assert (header.filename, header.sha256) == (name, hashlib.sha256(received).hexdigest())
    assert not content or received == content
    call.terminate(dataset_pb2.Upload(name="uploads/u1", filename=name), (), OK, "")
    return header.filename


def test_an_upload_announces_size_and_digest_and_tells_how_far_it_is(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(CONTENT * 700)
    steps: list[tuple[int, int]] = []
    result = wire.start(wire.client.upload_file, tmp_path / "model.pt", lambda *step: steps.append(step))
    upload(wire, CONTENT * 700)
    assert result.result(PATIENCE).name == "uploads/u1"
    assert steps == [(262144, 716800), (524288, 716800), (716800, 716800)]


def test_a_damaged_upload_is_sent_again(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(CONTENT)
    known = wire.start(wire.client.job("x").get)
    wire.answer("JobService.GetJob", JOB)  # the mesh has been reached
    known.result(PATIENCE)
    result = wire.start(wire.client.upload_file, tmp_path / "model.pt")
    damaged = MeshError(grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, "send again")
    status = rpc_status.to_status(errors.status_of(damaged))
    wire.upload().terminate(None, status.trailing_metadata, status.code, status.details)
    upload(wire, CONTENT)
    assert result.result(PATIENCE).name == "uploads/u1"


def test_a_folder_becomes_a_dataset(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "shapes" / "images").mkdir(parents=True)
    (tmp_path / "shapes" / "images" / "0.jpg").write_bytes(CONTENT)
    result = wire.start(wire.client.create_dataset, tmp_path / "shapes", "shapes", "Shapes")
    upload(wire, b"", "shapes.zip")
    request = wire.answer("DatasetService.CreateDataset", DATASET)
    assert (request.upload, request.dataset_id, request.dataset.display_name) == (
        "uploads/u1",
        "shapes",
        "Shapes",
    )
    assert result.result(PATIENCE) == DATASET


def test_files_of_the_callers_choice_become_one_archive(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(CONTENT)
    files = [(tmp_path / "0.jpg", "images/0.jpg")]
    result = wire.start(wire.client.upload_archive, files, "images.zip")
    assert upload(wire, b"", "images.zip") == "images.zip"
    assert result.result(PATIENCE).name == "uploads/u1"


BEST = result_pb2.Artifact(
    name="jobs/x/artifacts/best", size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest()
)
DOWNLOAD = "ResultService.DownloadArtifact"


def test_a_cut_download_goes_on_where_it_was(wire: Wire, tmp_path: Path) -> None:
    steps: SimpleQueue = SimpleQueue()
    target = tmp_path / "new" / "best.pt"
    result = wire.start(wire.client.job("x").download, "best", target, lambda *step: steps.put(step))
    wire.answer("ResultService.ListArtifacts", result_pb2.ListArtifactsResponse(artifacts=[BEST]))
    _, stream = wire.stream(DOWNLOAD)
    stream.send_response(httpbody_pb2.HttpBody(data=CONTENT[:300]))
    assert steps.get(timeout=PATIENCE) == (300, len(CONTENT))
    stream.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
    request, stream = wire.stream(DOWNLOAD)
    assert request == result_pb2.DownloadArtifactRequest(artifact=BEST.name, read_offset=300)
    stream.send_response(httpbody_pb2.HttpBody(data=CONTENT[300:]))
    stream.terminate((), OK, "")
    assert result.result(PATIENCE) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["best.pt"]


def test_bytes_with_another_digest_are_refused_and_not_kept(wire: Wire, tmp_path: Path) -> None:
    result = wire.start(wire.client.job("x").download, BEST, tmp_path / "best.pt")
    _, stream = wire.stream(DOWNLOAD)
    stream.send_response(httpbody_pb2.HttpBody(data=b"?" * len(CONTENT)))
    stream.terminate((), OK, "")
    with pytest.raises(errors.DataLoss, match="Download it again"):
        result.result(PATIENCE)
    assert not list(tmp_path.iterdir())


def test_an_unknown_artifact_is_not_found(wire: Wire, tmp_path: Path) -> None:
    result = wire.start(wire.client.job("x").download, "worst", tmp_path / "worst.pt")
    wire.answer("ResultService.ListArtifacts", result_pb2.ListArtifactsResponse(artifacts=[BEST]))
    with pytest.raises(errors.NotFound, match="jobs/x/artifacts/worst"):
        result.result(PATIENCE)


def interrupt_the_main_thread() -> None:
    """As soon as it waits: a signal that comes just before is only looked at after the wait."""
    main = threading.main_thread().ident
    until = time.monotonic() + PATIENCE
    while sys._current_frames()[main].f_code is not threading.Condition.wait.__code__:
        assert time.monotonic() < until
        time.sleep(0.001)
    time.sleep(0.1)  # from its first line to the system's
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def watch_of_a_wait(wire: Wire):
    wire.answer("JobService.GetJob", RUNS)
    return wire.stream(WATCH)[1]


INTERRUPTED = {
    "a call": (
        lambda client: client.job("x").get(),
        lambda wire: wire.unary("JobService.GetJob")[1],
    ),
    "a watch": (lambda client: list(client.job("x").watch()), lambda wire: wire.stream(WATCH)[1]),
    "a wait": (lambda client: client.job("x").wait(), watch_of_a_wait),
}


@pytest.mark.parametrize(("work", "taken"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_ends_and_cancels(wire: Wire, work, taken) -> None:
    def interrupt():
        call = taken(wire)
        interrupt_the_main_thread()
        return call

    call = wire.start(interrupt)
    with pytest.raises(KeyboardInterrupt):
        work(wire.client)
    wire.start(call.result(PATIENCE).cancelled).result(PATIENCE)


def test_a_closed_client_says_how_to_open_one_and_leaves_a_given_channel_open(wire: Wire) -> None:
    with wire.client as client:
        handle = client.job("x")
    with pytest.raises(RuntimeError, match=r"with Client\(\) as client"):
        handle.get()
    again = Client(channel=wire.channel)
    result = wire.start(again.job("x").get)
    wire.answer("JobService.GetJob", JOB)
    assert result.result(PATIENCE) == JOB


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONMESH_ADDRESS", "mesh.example:8")
    with Client() as client:
        assert client.address == "mesh.example:8"


def public(kind: type) -> dict[str, object]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("synchronous", "asynchronous"), [(Client, AsyncClient), (JobHandle, AsyncJobHandle)]
)
def test_both_faces_have_the_same_methods_with_the_same_words(synchronous: type, asynchronous: type) -> None:
    def shape(method: object) -> tuple[object, ...]:
        parameters = inspect.signature(method).parameters.values()
        return [(each.name, each.kind, each.default) for each in parameters], inspect.getdoc(method)

    def shapes(kind: type) -> dict[str, object]:
        return {name: shape(value) for name, value in public(kind).items()}

    assert shapes(synchronous) == shapes(asynchronous)


def test_the_tables_above_and_the_tests_below_them_leave_no_method_out() -> None:
    own_tests = {
        "Client": {
            "close",
            "create_dataset",
            "create_job",
            "job",
            "upload_archive",
            "upload_file",
            "watch_jobs",
        },
        "JobHandle": {"cancel", "download", "retry", "wait", "watch", "watch_predictions"},
    }
    covered = {name for names in (UNARY, LISTS) for name in names}
    covered |= {f"{kind}.{name}" for kind, names in own_tests.items() for name in names}
    assert covered == {f"{kind.__name__}.{name}" for kind in (Client, JobHandle) for name in public(kind)}
