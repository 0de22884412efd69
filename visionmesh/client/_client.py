"""The client's public face."""

import asyncio
import os
import tempfile
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from visionmesh.client._archive import folder_files, write_archive
from visionmesh.client._connection import Connection
from visionmesh.client._jobs import AsyncJobHandle
from visionmesh.client._resume import resuming
from visionmesh.client._transfer import ProgressCallback, upload
from visionmesh.v1 import dataset_pb2, job_pb2, runner_pb2

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where the mesh is looked for when neither the caller nor VISIONMESH_ADDRESS says."""

_PAGE_SIZE = 500
_UNPACK_TIMEOUT = 900.0  # seconds for the server to check and store a large dataset


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
        self.address = address or os.environ.get("VISIONMESH_ADDRESS") or DEFAULT_ADDRESS
        self._timeout = timeout
        self._patience = reconnect_timeout
        self._open: Connection | None = None

    async def __aenter__(self) -> Self:
        self._open = Connection(self.address, self._timeout)
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
    def _connection(self) -> Connection:
        if self._open is None:
            raise RuntimeError("the client is not open: use it inside `async with AsyncClient() as client:`")
        return self._open

    async def create_job(
        self, job: job_pb2.Job, request_id: str | None = None, validate_only: bool = False
    ) -> AsyncJobHandle:
        """Submit a job. Calls repeated with one `request_id` create one job; by default it is random.

        With `validate_only` nothing is stored, and the handle's `latest` is the job as it would be.
        """
        request = job_pb2.CreateJobRequest(
            job=job, request_id=request_id or str(uuid.uuid4()), validate_only=validate_only
        )
        created = await self._connection.unary(self._connection.jobs.CreateJob, request)
        return AsyncJobHandle(self._connection, created.name, self._patience, created)

    def job(self, name: str) -> AsyncJobHandle:
        """The job of that name, jobs/{job} or {job}; nothing is asked of the mesh yet."""
        full = name if name.startswith("jobs/") else f"jobs/{name}"
        return AsyncJobHandle(self._connection, full, self._patience)

    def list_jobs(
        self,
        filter: str = "",  # noqa: A002 - the API's name
        order_by: str = "",
        page_size: int = _PAGE_SIZE,
    ) -> AsyncIterator[job_pb2.Job]:
        """Jobs, newest first unless `order_by` says otherwise; see ListJobsRequest for the filter."""
        request = job_pb2.ListJobsRequest(filter=filter, order_by=order_by, page_size=page_size)
        return self._connection.pages(self._connection.jobs.ListJobs, request, lambda response: response.jobs)

    async def watch_jobs(
        self,
        filter: str = "",  # noqa: A002 - the API's name
        resume_token: str = "",
    ) -> AsyncGenerator[job_pb2.WatchJobsResponse, None]:
        """The present state of each matching job, then each again when it has changed.

        Never ends by itself; resumes by token when it is cut. Bookmarks are passed on: the first
        says that all present jobs are told.
        """
        connection = self._connection

        def open_call(
            token: str,
        ) -> "grpc.aio.UnaryStreamCall[job_pb2.WatchJobsRequest, job_pb2.WatchJobsResponse]":
            return connection.jobs.WatchJobs(job_pb2.WatchJobsRequest(filter=filter, resume_token=token))

        def advance(token: str, response: job_pb2.WatchJobsResponse) -> str:
            return response.resume_token or token

        responses = resuming(connection, open_call, resume_token, advance, self._patience)
        async with aclosing(responses):
            async for response in responses:
                yield response

    async def upload_file(
        self, path: Path, on_progress: ProgressCallback | None = None
    ) -> dataset_pb2.Upload:
        """Store a file for a later call, such as an image, a checkpoint or a zip of images."""
        return await upload(self._connection, path, on_progress, self._patience)

    async def upload_archive(
        self,
        files: Sequence[tuple[Path, str]],
        name: str,
        on_progress: ProgressCallback | None = None,
    ) -> dataset_pb2.Upload:
        """Store `files`, given as (path, name in the archive), as one zip called `name`."""
        with tempfile.TemporaryDirectory(prefix="visionmesh-") as folder:
            archive = Path(folder) / name
            await _write_archive(files, archive)
            return await self.upload_file(archive, on_progress)

    async def create_dataset(
        self,
        source: Path,
        dataset_id: str = "",
        display_name: str = "",
        on_progress: ProgressCallback | None = None,
        validate_only: bool = False,
    ) -> dataset_pb2.Dataset:
        """Upload a folder or zip and make a dataset of it.

        The format is found out from the files. Raises MeshError with one violation, "file:line",
        per broken label.
        """
        files = await asyncio.to_thread(_folder_files, source)
        if files is not None:
            uploaded = await self.upload_archive(files, f"{source.name or 'dataset'}.zip", on_progress)
        else:
            uploaded = await self.upload_file(source, on_progress)
        request = dataset_pb2.CreateDatasetRequest(
            dataset=dataset_pb2.Dataset(display_name=display_name),
            dataset_id=dataset_id,
            upload=uploaded.name,
            validate_only=validate_only,
            request_id=str(uuid.uuid4()),
        )
        create = self._connection.datasets.CreateDataset
        return await self._connection.unary(create, request, timeout=_UNPACK_TIMEOUT)

    async def dataset(self, name: str) -> dataset_pb2.Dataset:
        """The dataset of that name, datasets/{dataset} or {dataset}."""
        full = name if name.startswith("datasets/") else f"datasets/{name}"
        request = dataset_pb2.GetDatasetRequest(name=full)
        return await self._connection.unary(self._connection.datasets.GetDataset, request)

    def list_datasets(self) -> AsyncIterator[dataset_pb2.Dataset]:
        """Datasets, newest first."""
        request = dataset_pb2.ListDatasetsRequest(page_size=_PAGE_SIZE)
        return self._connection.pages(
            self._connection.datasets.ListDatasets, request, lambda response: response.datasets
        )

    async def delete_dataset(self, name: str) -> None:
        """Delete a dataset that no unfinished job uses."""
        full = name if name.startswith("datasets/") else f"datasets/{name}"
        request = dataset_pb2.DeleteDatasetRequest(name=full)
        await self._connection.unary(self._connection.datasets.DeleteDataset, request)

    def list_runners(self) -> AsyncIterator[runner_pb2.Runner]:
        """Runners by name."""
        request = runner_pb2.ListRunnersRequest(page_size=_PAGE_SIZE)
        return self._connection.pages(
            self._connection.runners.ListRunners, request, lambda response: response.runners
        )

    async def runner(self, name: str) -> runner_pb2.Runner:
        """The runner of that name, runners/{runner} or {runner}."""
        request = runner_pb2.GetRunnerRequest(name=_full_name("runners", name))
        return await self._connection.unary(self._connection.runners.GetRunner, request)

    async def drain_runner(self, name: str) -> runner_pb2.Runner:
        """Give a runner no more jobs; those that it has run to their end."""
        request = runner_pb2.DrainRunnerRequest(name=_full_name("runners", name))
        return await self._connection.unary(self._connection.runners.DrainRunner, request)

    async def undrain_runner(self, name: str) -> runner_pb2.Runner:
        """Let a drained runner take jobs again."""
        request = runner_pb2.UndrainRunnerRequest(name=name)
        return await self._connection.unary(self._connection.runners.UndrainRunner, request)


def _full_name(collection: str, name: str) -> str:
    """{collection}/{id}, for a name given in full or as the id alone."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def _folder_files(source: Path) -> list[tuple[Path, str]] | None:
    """What is in a folder; None for a file."""
    return folder_files(source) if source.is_dir() else None


async def _write_archive(files: Sequence[tuple[Path, str]], target: Path) -> None:
    """Zip in a thread that gives up soon after this call is cancelled."""
    given_up = threading.Event()
    try:
        await asyncio.to_thread(write_archive, files, target, lambda: not given_up.is_set())
    finally:
        given_up.set()
