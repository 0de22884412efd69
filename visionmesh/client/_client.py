"""The synchronous client."""

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from visionmesh.client import _job_calls as job_calls
from visionmesh.client import _mesh_calls as calls
from visionmesh.client._archive import archive_name, files_of
from visionmesh.client._channel import default_address
from visionmesh.client._connection import Connection
from visionmesh.client._job import JobHandle
from visionmesh.client._sync_transfer import upload, upload_archive
from visionmesh.client._transfer import ProgressCallback
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2, vision_pb2


class Client:
    """Calls a mesh. Use it with `with`; every method can raise MeshError. Threads may share it.

    `address` is host:port or a gRPC target such as dns:///mesh:50051; without one it is taken
    from VISIONMESH_ADDRESS. `timeout` is the deadline of single calls in seconds. Watches and
    downloads that lose the mesh try for `reconnect_timeout` seconds to find it again.

    A `channel` of your own, such as one with credentials or one of grpc_testing, is used as it
    is and stays open; `address` is then only a name for messages. `channel_options` gives what a
    channel of the client's own has. Progress callbacks of uploads are called from another thread.
    """

    address: str
    """Where it calls."""

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = 20.0,
        reconnect_timeout: float = 60.0,
        channel: grpc.Channel | None = None,
    ) -> None:
        self.address = address or default_address()
        self._connection = Connection(self.address, timeout, reconnect_timeout, channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is under way and close the connection."""
        self._connection.close()

    def create_job(
        self, job: job_pb2.Job, request_id: str | None = None, validate_only: bool = False
    ) -> JobHandle:
        """Submit a job. Calls repeated with one `request_id` create one job; by default it is random.

        With `validate_only` nothing is stored, and the handle's `latest` is the job as it would be.
        """
        created = self._connection.unary(job_calls.create(job, request_id, validate_only))
        return JobHandle(self._connection, created.name, created)

    def job(self, name: str) -> JobHandle:
        """The job of that name, jobs/{job} or {job}; nothing is asked of the mesh yet."""
        return JobHandle(self._connection, calls.full_name("jobs", name))

    def list_jobs(
        self,
        filter: str = "",  # noqa: A002 - the API's name
        order_by: str = "",
        page_size: int = job_calls.PAGE_SIZE,
    ) -> Iterator[job_pb2.Job]:
        """Jobs, newest first unless `order_by` says otherwise; see ListJobsRequest for the filter."""
        return self._connection.pages(calls.list_jobs(filter, order_by, page_size))

    def watch_jobs(
        self,
        filter: str = "",  # noqa: A002 - the API's name
        resume_token: str = "",
    ) -> Generator[job_pb2.WatchJobsResponse, None, None]:
        """The present state of each matching job, then each again when it has changed.

        Never ends by itself; resumes by token when it is cut. Bookmarks are passed on: the first
        says that all present jobs are told.
        """
        return self._connection.stream(calls.watch_jobs(filter, resume_token))

    def upload_file(self, path: Path, on_progress: ProgressCallback | None = None) -> dataset_pb2.Upload:
        """Store a file for a later call, such as an image, a checkpoint or a zip of images."""
        return upload(self._connection, path, on_progress)

    def upload_archive(
        self,
        files: Sequence[tuple[Path, str]],
        name: str,
        on_progress: ProgressCallback | None = None,
    ) -> dataset_pb2.Upload:
        """Store `files`, given as (path, name in the archive), as one zip called `name`."""
        return upload_archive(self._connection, files, name, on_progress)

    def create_dataset(
        self,
        source: Path,
        dataset_id: str = "",
        display_name: str = "",
        on_progress: ProgressCallback | None = None,
        validate_only: bool = False,
        task: vision_pb2.Task.ValueType = vision_pb2.TASK_UNSPECIFIED,
    ) -> dataset_pb2.Dataset:
        """Upload a folder or zip and make a dataset of it.

        The format is found out from the files, and so is the task, unless it is told. Raises MeshError
        with one violation, "file:line", per broken label.
        """
        files = files_of(source)
        if files is not None:
            uploaded = self.upload_archive(files, archive_name(source), on_progress)
        else:
            uploaded = self.upload_file(source, on_progress)
        call = calls.create_dataset(uploaded.name, dataset_id, display_name, validate_only, task)
        return self._connection.unary(call)

    def dataset(self, name: str) -> dataset_pb2.Dataset:
        """The dataset of that name, datasets/{dataset} or {dataset}."""
        return self._connection.unary(calls.get_dataset(name))

    def list_datasets(self) -> Iterator[dataset_pb2.Dataset]:
        """Datasets, newest first."""
        return self._connection.pages(calls.list_datasets())

    def delete_dataset(self, name: str) -> None:
        """Delete a dataset that no unfinished job uses."""
        self._connection.unary(calls.delete_dataset(name))

    def list_media_items(
        self,
        state: dataset_pb2.MediaItemState.ValueType = dataset_pb2.MEDIA_ITEM_STATE_UNSPECIFIED,
        ids: Sequence[str] = (),
    ) -> Iterator[dataset_pb2.MediaItem]:
        """Images of the media store that jobs have named, by id; in `state` and of `ids` if given."""
        return self._connection.pages(calls.list_media_items(state, ids))

    def runner(self, name: str) -> runner_pb2.Runner:
        """The runner of that name, runners/{runner} or {runner}."""
        return self._connection.unary(calls.get_runner(name))

    def list_runners(self) -> Iterator[runner_pb2.Runner]:
        """Runners by name."""
        return self._connection.pages(calls.list_runners())

    def drain_runner(self, name: str) -> runner_pb2.Runner:
        """Give a runner no more jobs; those that it has run to their end."""
        return self._connection.unary(calls.drain_runner(name))

    def undrain_runner(self, name: str) -> runner_pb2.Runner:
        """Let a drained runner take jobs again."""
        return self._connection.unary(calls.undrain_runner(name))
