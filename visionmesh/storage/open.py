"""Which store a URL means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from visionmesh.storage.interface import ObjectStore
from visionmesh.storage.local import LocalStore


def open_store(url: str) -> ObjectStore:
    """The store at file:///FOLDER or a plain path. Raises ValueError for what is not supported."""
    if "://" not in url:
        if not url.strip():
            raise ValueError("the store's URL is empty; give file:///FOLDER or a path")
        return LocalStore(Path(url))  # as it stands: %, ? and # mean nothing in a path
    parts = urlsplit(url)
    if parts.scheme == "s3":
        raise ValueError(f"{url!r}: S3 comes with a later release; until then give file:///FOLDER or a path")
    if parts.scheme != "file":
        raise ValueError(f"{url!r}: there is no store for {parts.scheme}://; give file:///FOLDER or a path")
    if parts.netloc not in {"", "localhost"} or not parts.path:
        raise ValueError(f"{url!r} names a host, not a folder; write file:///FOLDER with three slashes")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} has a ? or #; write them as %3F or %23 if the folder's name holds them")
    return LocalStore(Path(unquote(parts.path)))
