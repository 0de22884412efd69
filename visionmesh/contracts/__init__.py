"""The contracts as .proto files, complete, for clients in any language."""

from visionmesh.contracts.export import export

__all__ = ["export"]
