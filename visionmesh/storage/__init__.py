"""Objects by key: one interface, and behind it a local folder, or a bucket of S3."""

from visionmesh.storage._files import read_chunks
from visionmesh.storage.interface import (
    BadKey,
    BucketMissing,
    DigestMismatch,
    NoCredentials,
    ObjectChanged,
    ObjectStore,
    StoredObject,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    check_key,
)
from visionmesh.storage.local import LocalStore
from visionmesh.storage.memory import MemoryStore
from visionmesh.storage.open import open_store
from visionmesh.storage.s3_settings import S3Settings, read_s3_settings

__all__ = [
    "BadKey",
    "BucketMissing",
    "DigestMismatch",
    "LocalStore",
    "MemoryStore",
    "NoCredentials",
    "ObjectChanged",
    "ObjectStore",
    "S3Settings",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "StoredObject",
    "check_key",
    "open_store",
    "read_chunks",
    "read_s3_settings",
]
