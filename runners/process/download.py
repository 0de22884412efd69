"""Downloads one file: whole and as it was announced, or not at all."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from google.rpc import code_pb2

from runners.process.errors import UserError

TIMEOUT_SECONDS = 20.0
"""Longest silence of the other side."""

MAX_BYTES = 16 * 1024**3
"""Largest file that is taken."""

_CHUNK_BYTES = 1024 * 1024
_SHA256 = re.compile("[0-9a-f]{64}")
_ABSENT = (404, 410)
_ANNOUNCED = "X-Linked-ETag"
"""Header in which a hub tells the SHA-256 of the file that it leads to."""

DIGESTS_VARIABLE = "VISIONMESH_WEIGHTS_DIGESTS"
"""A file as sha256sum writes it: with it, nothing is taken that it does not list."""


class DownloadFailed(Exception):
    """The file cannot be had now; says from where, and why."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and remembers what the first place says of the file."""

    announced = ""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> Any:
        self.announced = self.announced or _announced(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: Path) -> None:
    """Fetch `url` (http, https or file) into `target`, and compare it with what is known of its SHA-256.

    Tries once, so a runner without a network says so at once. Raises DownloadFailed; UserError if there is
    no such file, or another than is listed or announced.
    """
    part = target.with_name(f".{target.name}.part")
    listed = _listed(url)
    redirects = _Redirects()
    request = urllib.request.Request(url, headers={"User-Agent": "visionmesh"})  # noqa: S310 - the operator's
    try:
        with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS) as response:
            expected = listed or redirects.announced or _announced(response.headers)
            found = _store(response, part)
    except urllib.error.HTTPError as error:
        if error.code in _ABSENT:
            text = f"There is no file at {url}. Name a checkpoint, or another model."
            raise UserError(text, reason="PRETRAINED_UNAVAILABLE") from error
        raise DownloadFailed(f"{url} answers {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts too
        why = getattr(error, "reason", None) or error
        raise DownloadFailed(f"{url} cannot be fetched: {why}.") from error
    if expected and found != expected:
        part.unlink()
        text = f"{url} has the SHA-256 {found}, not the expected {expected}: it was not used."
        raise UserError(text, code=code_pb2.FAILED_PRECONDITION)
    part.replace(target)


def _store(response: Any, part: Path) -> str:
    """Write what comes to `part`; its SHA-256. Raises DownloadFailed if it is too long or cut short."""
    digest, size = hashlib.sha256(), 0
    with part.open("wb") as file:
        while chunk := response.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_BYTES:
                raise DownloadFailed(f"{response.url} is larger than {MAX_BYTES} bytes.")
            digest.update(chunk)
            file.write(chunk)
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) != size:
        raise DownloadFailed(f"{response.url} was cut off after {size} of {announced} bytes.")
    return digest.hexdigest()


def _announced(headers: Any) -> str:
    """The SHA-256 that a server tells, if it does."""
    value = (headers.get(_ANNOUNCED) or "").strip('"').lower()
    return value if _SHA256.fullmatch(value) else ""


def _listed(url: str) -> str:
    """The SHA-256 on the operator's list; empty without a list. Raises UserError for what is not on it."""
    listing = os.environ.get(DIGESTS_VARIABLE, "")
    if not listing:
        return ""
    for line in Path(listing).read_text().splitlines():
        digest, _, name = line.partition(" ")
        if _SHA256.fullmatch(digest.lower()) and url.endswith("/" + name.strip().lstrip("*")):
            return digest.lower()
    text = f"{url} is not on this runner's list of digests ({Path(listing).name}). Have it added, or name a "
    raise UserError(text + "checkpoint.", reason="PRETRAINED_UNAVAILABLE")
