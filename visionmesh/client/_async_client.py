"""The asynchronous client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from visionmesh.client import _job_calls as job_calls
from visionmesh.client import _mesh_calls as calls
from visionmesh.client._archive import archive_name, files_of
from visionmesh.client._async_connection import AsyncConnection
from visionmesh.client._async_job import AsyncJobHandle
from visionmesh.client._async_transfer import upload, upload_archive
from visionmesh.client._channel import default_address
from visionmesh.client._errors import closed
from visionmesh.client._transfer import ProgressCallback
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2, vision_pb2


class AsyncClient:
    """Calls a mesh. Use it with `async with`; every method can raise MeshError.

    `address` is host:port or a gRPC target such as dns:///mesh:50051; without one it is taken
    from VISIONMESH_ADDRESS. `timeout` is the deadline of single calls in seconds. Watches and
    downloads that lose the mesh try for `reconnect_timeout` seconds to find it again.
    """

    address: str
    """Where it calls."""

    def __init__(
        self, address: str | None = None, *, timeout: float = 20.0, reconnect_timeout: float = 60.0
    ) -> None:
        self.address = address or default_address()
        self._timeout = timeout
        self._patience = reconnect_timeout
        self._open: AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        self._open = AsyncConnection(self.address, self._timeout, self._patience)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is under way and close the connection."""
        if self._open is not None:
            connection, self._open = self._open, None
            await connection.close()

    @property
    def _connection(self) -> AsyncConnection:
        if self._open is None:
            raise closed("AsyncClient")
        return self._open

    async def create_job(
        self, job: job_pb2.Job, request_id: str | None = None, validate_only: bool = False
    ) -> AsyncJobHandle:
        """Submit a job. Calls repeated with one `request_id` create one job; by default it is random.

        With `validate_only` nothing is stored, and the handle's `latest` is the job as it would be.
        """
        created = await self._connection.unary(job_calls.create(job, request_id, validate_only))
        return AsyncJobHandle(self._connection, created.name, created)

    def job(self, name: str) -> AsyncJobHandle:
        """The job of that name, jobs/{job} or {job}; nothing is asked of the mesh yet."""
        return AsyncJobHandle(self._connection, calls.full_name("jobs", name))

    def list_jobs(
        self,
        filter: str = "",  # noqa: A002 - the API's name
        order_by: str = "",
        page_size: int = job_calls.PAGE_SIZE,
    ) -> AsyncIterator[job_pb2.Job]:
        """Jobs, newest first unless `order_by` says otherwise; see ListJobsRequest for the filter."""
        return self._connection.pages(calls.list_jobs(filter, order_by, page_size))

    def watch_jobs(
        self,
        filter: str = "",  # noqa: A002 - the API's name
        resume_token: str = "",
    ) -> AsyncGenerator[job_pb2.WatchJobsResponse, None]:
        """The present state of each matching job, then each again when it has changed.

        Never ends by itself; resumes by token when it is cut. Bookmarks are passed on: the first
        says that all present jobs are told.
        """
        return self._connection.stream(calls.watch_jobs(filter, resume_token))

    async def upload_file(
        self, path: Path, on_progress: ProgressCallback | None = None
    ) -> dataset_pb2.Upload:
        """Store a file for a later call, such as an image, a checkpoint or a zip of images."""
        return await upload(self._connection, path, on_progress)

    async def upload_archive(
        self,
        files: Sequence[tuple[Path, str]],
        name: str,
        on_progress: ProgressCallback | None = None,
    ) -> dataset_pb2.Upload:
        """Store `files`, given as (path, name in the archive), as one zip called `name`."""
        return await upload_archive(self._connection, files, name, on_progress)

    async def create_dataset(
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
        files = await asyncio.to_thread(files_of, source)
        if files is not None:
            uploaded = await self.upload_archive(files, archive_name(source), on_progress)
        else:
            uploaded = await self.upload_file(source, on_progress)
        call = calls.create_dataset(uploaded.name, dataset_id, display_name, validate_only, task)
        return await self._connection.unary(call)

    async def dataset(self, name: str) -> dataset_pb2.Dataset:
        """The dataset of that name, datasets/{dataset} or {dataset}."""
        return await self._connection.unary(calls.get_dataset(name))

    def list_datasets(self) -> AsyncIterator[dataset_pb2.Dataset]:
        """Datasets, newest first."""
        return self._connection.pages(calls.list_datasets())

    async def delete_dataset(self, name: str) -> None:
        """Delete a dataset that no unfinished job uses."""
        await self._connection.unary(calls.delete_dataset(name))

    def list_media_items(
        self,
        state: dataset_pb2.MediaItemState.ValueType = dataset_pb2.MEDIA_ITEM_STATE_UNSPECIFIED,
        ids: Sequence[str] = (),
    ) -> AsyncIterator[dataset_pb2.MediaItem]:
        """Images of the media store that jobs have named, by id; in `state` and of `ids` if given."""
        return self._connection.pages(calls.list_media_items(state, ids))

    async def runner(self, name: str) -> runner_pb2.Runner:
        """The runner of that name, runners/{runner} or {runner}."""
        return await self._connection.unary(calls.get_runner(name))

    def list_runners(self) -> AsyncIterator[runner_pb2.Runner]:
        """Runners by name."""
        return self._connection.pages(calls.list_runners())

    async def drain_runner(self, name: str) -> runner_pb2.Runner:
        """Give a runner no more jobs; those that it has run to their end."""
        return await self._connection.unary(calls.drain_runner(name))

    async def undrain_runner(self, name: str) -> runner_pb2.Runner:
        """Let a drained runner take jobs again."""
        return await self._connection.unary(calls.undrain_runner(name))
