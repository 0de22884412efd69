"""The asynchronous client: typed calls, watches that resume by themselves, one kind of error.

    async with AsyncClient("127.0.0.1:50051") as client:
        job = await client.create_job(job_pb2.Job(train=...))
        async for event in job.watch():
            ...

Whatever goes wrong is raised as visionmesh.errors.MeshError.
"""

from visionmesh.client._archive import file_digest, folder_digest, folder_files
from visionmesh.client._client import DEFAULT_ADDRESS, AsyncClient
from visionmesh.client._errors import TransportError
from visionmesh.client._jobs import TERMINAL_STATES, AsyncJobHandle
from visionmesh.client._transfer import ProgressCallback

__all__ = [
    "DEFAULT_ADDRESS",
    "TERMINAL_STATES",
    "AsyncClient",
    "AsyncJobHandle",
    "ProgressCallback",
    "TransportError",
    "file_digest",
    "folder_digest",
    "folder_files",
]
