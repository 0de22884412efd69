"""Which store a URL means."""

from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from visionmesh.storage.interface import BadKey, ObjectStore
from visionmesh.storage.local import LocalStore
from visionmesh.storage.s3_settings import S3Settings, read_s3_settings

_KNOWN = "give s3://BUCKET/PREFIX, file:///FOLDER or a path"


def open_store(url: str, owner: str = "", s3: S3Settings | None = None) -> ObjectStore:
    """The store at s3://BUCKET/PREFIX, file:///FOLDER or a plain path.

    Where S3 is, is said by `s3`, or by the environment: STORAGE_*, and before it {owner}_STORAGE_*.
    Raises ValueError for what is not supported.
    """
    if "://" not in url:
        if not url.strip():
            raise ValueError(f"the store's URL is empty; {_KNOWN}")
        return LocalStore(Path(url))  # as it stands: %, ? and # mean nothing in a path
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} has a ? or #; write them as %3F or %23 if they belong to a name")
    if parts.scheme == "s3":
        return _bucket(url, parts, s3 or read_s3_settings(owner))
    if parts.scheme != "file":
        raise ValueError(f"{url!r}: there is no store for {parts.scheme}://; {_KNOWN}")
    if parts.netloc not in {"", "localhost"} or not parts.path:
        raise ValueError(f"{url!r} names a host, not a folder; write file:///FOLDER with three slashes")
    return LocalStore(Path(unquote(parts.path)))


def _bucket(url: str, parts: SplitResult, settings: S3Settings) -> ObjectStore:
    if not parts.netloc or "@" in parts.netloc or ":" in parts.netloc:
        raise ValueError(
            f"s3 URL without a plain bucket name; {_KNOWN}. Keys and the server's address go into "
            "STORAGE_ACCESS_KEY, STORAGE_SECRET_KEY and STORAGE_ENDPOINT"
        )
    from visionmesh.storage.s3 import S3Store  # aioboto3 takes memory and time: only for whom it is for

    try:
        return S3Store(parts.netloc, unquote(parts.path).strip("/"), settings)
    except BadKey as bad:
        raise ValueError(f"{url!r}: {bad}") from None
