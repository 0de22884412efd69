"""The calls about many jobs, datasets and runners, as data."""

import uuid
from collections.abc import Sequence

from google.protobuf import empty_pb2

from visionmesh.client._calls import Listing, Stream, Unary
from visionmesh.client._job_calls import PAGE_SIZE
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2, vision_pb2

_UNPACK_TIMEOUT = 900.0  # seconds for the server to check and store a large dataset


def full_name(collection: str, name: str) -> str:
    """{collection}/{id}, for a name given in full or as the id alone."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def list_jobs(
    filter: str,  # noqa: A002 - the API's name
    order_by: str,
    page_size: int,
) -> Listing[job_pb2.ListJobsRequest, job_pb2.ListJobsResponse, job_pb2.Job]:
    """ListJobs."""
    request = job_pb2.ListJobsRequest(filter=filter, order_by=order_by, page_size=page_size)
    return Listing(lambda stubs: stubs.jobs.ListJobs, request, lambda page: page.jobs)


def watch_jobs(
    filter: str,  # noqa: A002 - the API's name
    resume_token: str,
) -> Stream[str, job_pb2.WatchJobsRequest, job_pb2.WatchJobsResponse, job_pb2.WatchJobsResponse]:
    """WatchJobs, by token."""

    def request(token: str) -> job_pb2.WatchJobsRequest:
        return job_pb2.WatchJobsRequest(filter=filter, resume_token=token)

    def take(token: str, response: job_pb2.WatchJobsResponse) -> tuple[str, job_pb2.WatchJobsResponse]:
        return response.resume_token or token, response

    return Stream(lambda stubs: stubs.jobs.WatchJobs, request, resume_token, take)


def create_dataset(
    upload: str, dataset_id: str, display_name: str, validate_only: bool, task: vision_pb2.Task.ValueType
) -> Unary[dataset_pb2.CreateDatasetRequest, dataset_pb2.Dataset]:
    """CreateDataset, of an upload."""
    request = dataset_pb2.CreateDatasetRequest(
        dataset=dataset_pb2.Dataset(display_name=display_name, task=task),
        dataset_id=dataset_id,
        upload=upload,
        validate_only=validate_only,
        request_id=str(uuid.uuid4()),
    )
    return Unary(lambda stubs: stubs.datasets.CreateDataset, request, _UNPACK_TIMEOUT)


def get_dataset(name: str) -> Unary[dataset_pb2.GetDatasetRequest, dataset_pb2.Dataset]:
    """GetDataset."""
    request = dataset_pb2.GetDatasetRequest(name=full_name("datasets", name))
    return Unary(lambda stubs: stubs.datasets.GetDataset, request)


def list_datasets() -> Listing[
    dataset_pb2.ListDatasetsRequest, dataset_pb2.ListDatasetsResponse, dataset_pb2.Dataset
]:
    """ListDatasets."""
    request = dataset_pb2.ListDatasetsRequest(page_size=PAGE_SIZE)
    return Listing(lambda stubs: stubs.datasets.ListDatasets, request, lambda page: page.datasets)


def delete_dataset(name: str) -> Unary[dataset_pb2.DeleteDatasetRequest, empty_pb2.Empty]:
    """DeleteDataset."""
    request = dataset_pb2.DeleteDatasetRequest(name=full_name("datasets", name))
    return Unary(lambda stubs: stubs.datasets.DeleteDataset, request)


def list_media_items(
    state: dataset_pb2.MediaItemState.ValueType, ids: Sequence[str]
) -> Listing[dataset_pb2.ListMediaItemsRequest, dataset_pb2.ListMediaItemsResponse, dataset_pb2.MediaItem]:
    """ListMediaItems."""
    request = dataset_pb2.ListMediaItemsRequest(page_size=PAGE_SIZE, state=state, ids=ids)
    return Listing(lambda stubs: stubs.datasets.ListMediaItems, request, lambda page: page.items)


def list_runners() -> Listing[
    runner_pb2.ListRunnersRequest, runner_pb2.ListRunnersResponse, runner_pb2.Runner
]:
    """ListRunners."""
    request = runner_pb2.ListRunnersRequest(page_size=PAGE_SIZE)
    return Listing(lambda stubs: stubs.runners.ListRunners, request, lambda page: page.runners)


def get_runner(name: str) -> Unary[runner_pb2.GetRunnerRequest, runner_pb2.Runner]:
    """GetRunner."""
    request = runner_pb2.GetRunnerRequest(name=full_name("runners", name))
    return Unary(lambda stubs: stubs.runners.GetRunner, request)


def drain_runner(name: str) -> Unary[runner_pb2.DrainRunnerRequest, runner_pb2.Runner]:
    """DrainRunner."""
    request = runner_pb2.DrainRunnerRequest(name=full_name("runners", name))
    return Unary(lambda stubs: stubs.runners.DrainRunner, request)


def undrain_runner(name: str) -> Unary[runner_pb2.UndrainRunnerRequest, runner_pb2.Runner]:
    """UndrainRunner."""
    request = runner_pb2.UndrainRunnerRequest(name=full_name("runners", name))
    return Unary(lambda stubs: stubs.runners.UndrainRunner, request)
