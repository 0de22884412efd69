"""A real scheduler in the test's process, and ways to call it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from runner_double import PATIENCE, RunnerDouble, refusal

from scheduler import settings
from scheduler.server import serve
from visionmesh.client import AsyncClient
from visionmesh.v1 import (
    dataset_pb2,
    dataset_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    progress_pb2_grpc,
    result_pb2_grpc,
    runner_pb2_grpc,
    vision_pb2,
)

numbers = itertools.count(1)


class Mesh:
    """A running scheduler, and ways to call it."""

    def __init__(self, address: str, folder: Path, client: AsyncClient, channel: grpc.aio.Channel) -> None:
        self.address, self.folder, self.client, self.channel = address, folder, client, channel
        self.jobs: Any = job_pb2_grpc.JobServiceStub(channel)
        self.progress: Any = progress_pb2_grpc.ProgressServiceStub(channel)
        self.results: Any = result_pb2_grpc.ResultServiceStub(channel)
        self.runners: Any = runner_pb2_grpc.RunnerServiceStub(channel)
        self.datasets: Any = dataset_pb2_grpc.DatasetServiceStub(channel)

    def runner(self, framework: str, **options: Any) -> RunnerDouble:
        """A scripted runner of `framework`, to be entered."""
        runner_id = options.pop("runner_id", None) or f"runner-{next(numbers)}"
        return RunnerDouble(self.address, runner_id, framework, **options)

    async def call(self, method: Any, request: Any) -> Any:
        """A unary call. Raises MeshError."""
        try:
            return await method(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            raise refusal(error) from None

    async def create(self, job: job_pb2.Job, **fields: Any) -> job_pb2.Job:
        """CreateJob. Raises MeshError."""
        return await self.call(self.jobs.CreateJob, job_pb2.CreateJobRequest(job=job, **fields))

    async def get(self, name: str) -> job_pb2.Job:
        """GetJob. Raises MeshError."""
        return await self.call(self.jobs.GetJob, job_pb2.GetJobRequest(name=name))

    async def explain(self, name: str) -> job_pb2.ExplainJobResponse:
        """ExplainJob. Raises MeshError."""
        return await self.call(self.jobs.ExplainJob, job_pb2.ExplainJobRequest(name=name))

    async def upload(self, filename: str, data: bytes, **header: Any) -> dataset_pb2.Upload:
        """UploadFile. Raises MeshError."""

        async def requests() -> AsyncIterator[dataset_pb2.UploadFileRequest]:
            first = dataset_pb2.UploadFileHeader(filename=filename, **header)
            yield dataset_pb2.UploadFileRequest(header=first)
            for start in range(0, len(data), 65536):
                yield dataset_pb2.UploadFileRequest(chunk=data[start : start + 65536])

        return await self.call(self.datasets.UploadFile, requests())

    async def until(self, name: str, seen: Callable[[job_pb2.Job], bool]) -> job_pb2.Job:
        """The job as soon as `seen` says yes of it: waits for its changes, not for time to pass."""
        async with asyncio.timeout(PATIENCE):
            call = self.jobs.WatchJobs(job_pb2.WatchJobsRequest())
            try:
                async for response in call:
                    if response.job.name == name and seen(response.job):
                        return response.job
            finally:
                call.cancel()
        raise AssertionError("the watch ended")

    async def until_state(self, name: str, state: str) -> job_pb2.Job:
        """The job as soon as it is in `state`."""
        wanted = vision_pb2.JobState.Value(f"JOB_STATE_{state}")
        return await self.until(name, lambda job: job.state == wanted)


@asynccontextmanager
async def running(folder: Path, **flags: object) -> AsyncIterator[Mesh]:
    """A scheduler with settings of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        serve(settings.read(port=0, data_dir=folder, **flags)) as scheduler,
        AsyncClient(scheduler.address) as client,
        grpc.aio.insecure_channel(scheduler.address, options=options) as channel,
    ):
        yield Mesh(scheduler.address, folder, client, channel)


StartMesh = Callable[..., Any]
