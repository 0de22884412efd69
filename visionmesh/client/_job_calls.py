"""The calls about one job, as data."""

import uuid
from datetime import timedelta

from google.api import httpbody_pb2
from google.protobuf import empty_pb2

from visionmesh.client._calls import Listing, Stream, Unary
from visionmesh.v1 import job_pb2, progress_pb2, result_pb2

PAGE_SIZE = 500


def artifact_name(job: str, artifact: str) -> str:
    """jobs/{job}/artifacts/{artifact}, for a name given in full or within its job."""
    return artifact if artifact.startswith("jobs/") else f"{job}/artifacts/{artifact}"


def create(
    job: job_pb2.Job, request_id: str | None, validate_only: bool
) -> Unary[job_pb2.CreateJobRequest, job_pb2.Job]:
    """CreateJob; one random request_id for all tries of the call."""
    request = job_pb2.CreateJobRequest(
        job=job, request_id=request_id or str(uuid.uuid4()), validate_only=validate_only
    )
    return Unary(lambda stubs: stubs.jobs.CreateJob, request)


def get(name: str) -> Unary[job_pb2.GetJobRequest, job_pb2.Job]:
    """GetJob."""
    return Unary(lambda stubs: stubs.jobs.GetJob, job_pb2.GetJobRequest(name=name))


def cancel(name: str, grace: timedelta | None) -> Unary[job_pb2.CancelJobRequest, job_pb2.Job]:
    """CancelJob; without `grace` the server's default."""
    request = job_pb2.CancelJobRequest(name=name)
    if grace is not None:
        request.grace_period.FromTimedelta(grace)
    return Unary(lambda stubs: stubs.jobs.CancelJob, request)


def retry(name: str, request_id: str | None) -> Unary[job_pb2.RetryJobRequest, job_pb2.Job]:
    """RetryJob."""
    request = job_pb2.RetryJobRequest(name=name, request_id=request_id or str(uuid.uuid4()))
    return Unary(lambda stubs: stubs.jobs.RetryJob, request)


def delete(name: str) -> Unary[job_pb2.DeleteJobRequest, empty_pb2.Empty]:
    """DeleteJob."""
    return Unary(lambda stubs: stubs.jobs.DeleteJob, job_pb2.DeleteJobRequest(name=name))


def explain(name: str) -> Unary[job_pb2.ExplainJobRequest, job_pb2.ExplainJobResponse]:
    """ExplainJob."""
    return Unary(lambda stubs: stubs.jobs.ExplainJob, job_pb2.ExplainJobRequest(name=name))


def result(name: str) -> Unary[result_pb2.GetResultRequest, result_pb2.Result]:
    """GetResult."""
    request = result_pb2.GetResultRequest(name=f"{name}/result")
    return Unary(lambda stubs: stubs.results.GetResult, request)


def events(
    name: str, after_sequence: int
) -> Listing[job_pb2.ListJobEventsRequest, job_pb2.ListJobEventsResponse, progress_pb2.JobEvent]:
    """ListJobEvents."""
    request = job_pb2.ListJobEventsRequest(parent=name, after_sequence=after_sequence, page_size=PAGE_SIZE)
    return Listing(lambda stubs: stubs.jobs.ListJobEvents, request, lambda page: page.events)


def metrics(
    name: str,
) -> Listing[progress_pb2.ListMetricsRequest, progress_pb2.ListMetricsResponse, progress_pb2.EpochMetrics]:
    """ListMetrics."""
    request = progress_pb2.ListMetricsRequest(parent=name, page_size=PAGE_SIZE)
    return Listing(lambda stubs: stubs.progress.ListMetrics, request, lambda page: page.epochs)


def predictions(
    name: str,
) -> Listing[
    result_pb2.ListPredictionsRequest, result_pb2.ListPredictionsResponse, result_pb2.ImagePrediction
]:
    """ListPredictions."""
    request = result_pb2.ListPredictionsRequest(parent=name, page_size=PAGE_SIZE)
    return Listing(lambda stubs: stubs.results.ListPredictions, request, lambda page: page.predictions)


def artifacts(
    name: str,
) -> Listing[result_pb2.ListArtifactsRequest, result_pb2.ListArtifactsResponse, result_pb2.Artifact]:
    """ListArtifacts."""
    request = result_pb2.ListArtifactsRequest(parent=name, page_size=PAGE_SIZE)
    return Listing(lambda stubs: stubs.results.ListArtifacts, request, lambda page: page.artifacts)


def watch(
    name: str, after_sequence: int
) -> Stream[
    int, progress_pb2.WatchProgressRequest, progress_pb2.WatchProgressResponse, progress_pb2.JobEvent
]:
    """WatchProgress, by sequence; what comes twice counts once."""

    def request(position: int) -> progress_pb2.WatchProgressRequest:
        return progress_pb2.WatchProgressRequest(job=name, after_sequence=position)

    def take(
        position: int, response: progress_pb2.WatchProgressResponse
    ) -> tuple[int, progress_pb2.JobEvent | None]:
        if response.event.sequence > position:
            return response.event.sequence, response.event
        return max(position, response.bookmark.sequence), None

    return Stream(lambda stubs: stubs.progress.WatchProgress, request, after_sequence, take)


def watch_predictions(
    name: str, after_sequence: int
) -> Stream[
    int,
    result_pb2.WatchPredictionsRequest,
    result_pb2.WatchPredictionsResponse,
    tuple[int, result_pb2.ImagePrediction],
]:
    """WatchPredictions, by sequence; what comes twice counts once."""

    def request(position: int) -> result_pb2.WatchPredictionsRequest:
        return result_pb2.WatchPredictionsRequest(job=name, after_sequence=position)

    def take(
        position: int, response: result_pb2.WatchPredictionsResponse
    ) -> tuple[int, tuple[int, result_pb2.ImagePrediction] | None]:
        new = response.sequence > position and response.HasField("prediction")
        item = (response.sequence, response.prediction) if new else None
        return max(position, response.sequence), item

    return Stream(lambda stubs: stubs.results.WatchPredictions, request, after_sequence, take)


def download(
    artifact: str, offset: int
) -> Stream[int, result_pb2.DownloadArtifactRequest, httpbody_pb2.HttpBody, bytes]:
    """DownloadArtifact, by byte."""

    def request(position: int) -> result_pb2.DownloadArtifactRequest:
        return result_pb2.DownloadArtifactRequest(artifact=artifact, read_offset=position)

    def take(position: int, body: httpbody_pb2.HttpBody) -> tuple[int, bytes]:
        return position + len(body.data), body.data

    return Stream(lambda stubs: stubs.results.DownloadArtifact, request, offset, take)
