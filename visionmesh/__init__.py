"""VisionMesh: the public Python package.

What needs gRPC is found on first use, so that importing messages (`visionmesh.v1.*_pb2`) in a job
process never imports it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visionmesh.client import AsyncClient, AsyncJobHandle, Client, JobFailed, JobHandle
    from visionmesh.errors import MeshError, Reason

__all__ = ["AsyncClient", "AsyncJobHandle", "Client", "JobFailed", "JobHandle", "MeshError", "Reason"]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # else a misspelt name would pass for anything

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from visionmesh import client, errors

        return getattr(errors if name in ("MeshError", "Reason") else client, name)
