"""The clients: typed calls, watches that resume by themselves, one kind of error.

    with Client("127.0.0.1:50051") as client:
        job = client.create_job(job_pb2.Job(train=...))
        for event in job.watch():
            ...

AsyncClient has the same methods for asyncio. Whatever goes wrong is raised as a subclass of
visionmesh.errors.MeshError.
"""

from visionmesh.client._archive import file_digest, folder_digest, folder_files
from visionmesh.client._async_client import AsyncClient
from visionmesh.client._async_job import AsyncJobHandle
from visionmesh.client._channel import DEFAULT_ADDRESS, channel_options
from visionmesh.client._client import Client
from visionmesh.client._job import JobHandle
from visionmesh.client._outcome import TERMINAL_STATES, JobFailed
from visionmesh.client._transfer import ProgressCallback

__all__ = [
    "DEFAULT_ADDRESS",
    "TERMINAL_STATES",
    "AsyncClient",
    "AsyncJobHandle",
    "Client",
    "JobFailed",
    "JobHandle",
    "ProgressCallback",
    "channel_options",
    "file_digest",
    "folder_digest",
    "folder_files",
]
