"""Which store a URL means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from visionmesh.storage.interface import ObjectStore
from visionmesh.storage.local import LocalStore


def open_store(url: str) -> ObjectStore:
    """The store at file:///FOLDER or a plain path. Raises ValueError for what is not supported."""
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        return LocalStore(Path(unquote(parts.path)))
    raise ValueError(f"{url!r}: this version stores objects in a folder only; give file:///FOLDER or a path")
