"""VisionMesh: the public Python package.

`AsyncClient` and `AsyncJobHandle` are found on first use, so that importing messages
(`visionmesh.v1.*_pb2`) in a job process never imports gRPC.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionmesh.client import AsyncClient, AsyncJobHandle

__all__ = ["AsyncClient", "AsyncJobHandle"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from visionmesh import client

    return getattr(client, name)
