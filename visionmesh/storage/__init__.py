"""Objects by key: one interface, a local folder behind it now, S3 to come."""

from visionmesh.storage.interface import (
    BadKey,
    DigestMismatch,
    ObjectStore,
    StoredObject,
    StoreFull,
    check_key,
)
from visionmesh.storage.local import LocalStore
from visionmesh.storage.memory import MemoryStore
from visionmesh.storage.open import open_store

__all__ = [
    "BadKey",
    "DigestMismatch",
    "LocalStore",
    "MemoryStore",
    "ObjectStore",
    "StoreFull",
    "StoredObject",
    "check_key",
    "open_store",
]
