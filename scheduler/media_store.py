"""The external media store: images by id over HTTP. Nothing else here speaks to it.

Whoever submits a job chooses ids, and an id must never choose where a request goes. So the configured base
URL alone decides scheme, host and port; an id is one escaped part of the path; redirects are not followed,
proxies and cookies not used. What comes is counted, and must begin as an image does.
"""

import asyncio
import hashlib
import random
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import IO
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import grpc
import structlog
import yarl
from google.rpc import code_pb2, status_pb2

from scheduler.settings import Settings
from visionmesh import errors
from visionmesh.datasets.image_types import HEAD_BYTES, image_type
from visionmesh.datasets.images import FORMATS
from visionmesh.errors import MeshError, Reason

SCHEME = "media:"
"""Before the escaped id, it makes the URI by which runners ask for an image."""

DELAYS = (0.2, 0.5, 1.0)
"""Seconds from one try to the next, before jitter; after the last of them the store counts as away."""

LONGEST_WAIT = 60.0
"""Seconds that a Retry-After may ask for; a longer one is cut."""

CONNECTIONS = 16
"""Most requests at a time, over all jobs."""

_CHUNK_BYTES = 256 * 1024
_IN_MEMORY_BYTES = 1024 * 1024
_PASSING_CODES = frozenset({401, 408, 425, 429})
_GONE_CODES = frozenset({404, 410})
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\/?#%]|\.\.|^\.$")

log = structlog.get_logger(__name__)


class BadId(ValueError):
    """The id could mean something else than one image; the message says why."""


@dataclass(frozen=True)
class Address:
    """Where images are: base URL and path template. Made by `address`, which checks both."""

    base: str
    path: str

    def url(self, media_id: str) -> yarl.URL:
        """The URL of one image, on the configured host whatever the id is. Raises BadId."""
        escaped = quote(checked(media_id), safe="")
        return yarl.URL(self.base + self.path.replace("{id}", escaped), encoded=True)


def address(url: str, path: str) -> Address:
    """The address that two settings make. Raises ValueError naming the setting."""
    parts = urlsplit(url)
    plain = parts.hostname and not (parts.username or parts.password or parts.query or parts.fragment)
    if parts.scheme not in {"http", "https"} or not plain or re.search(r"[\s\\]", url):
        raise ValueError(
            "MEDIA_STORE_URL must be http://HOST or https://HOST, with a port and a path if need be, and "
            "without login, query or fragment; a token goes into MEDIA_STORE_TOKEN"
        )
    if not path.startswith("/") or path.count("{id}") != 1 or re.search(r"[\s\\#]|\.\.", path):
        raise ValueError('MEDIA_STORE_PATH must begin with / and hold {id} once, as "/media/{id}" does')
    return Address(url.rstrip("/"), path)


def checked(media_id: str) -> str:
    """The id, if it can only mean one image. Raises BadId."""
    try:
        media_id.encode()
    except UnicodeEncodeError:
        raise BadId(f"{media_id!r} is not Unicode text") from None
    if not media_id or _UNFIT.search(media_id):
        raise BadId(f"{media_id!r} holds a control character, one of / \\ ? # %, or '..', or is '.'")
    return media_id


def uri_of(media_id: str) -> str:
    """The URI by which a runner asks for the image. Raises BadId."""
    return SCHEME + quote(checked(media_id), safe="")


def id_of(uri: str) -> str | None:
    """The id in such a URI; None for any other URI."""
    return unquote(uri.removeprefix(SCHEME)) if uri.startswith(SCHEME) else None


class ImageRefused(Exception):
    """The image cannot be had, now or later; `status` is for its prediction."""

    def __init__(self, status: status_pb2.Status, *, gone: bool = False) -> None:
        """`gone`: the media store says that there is none such."""
        super().__init__(status.message)
        self.status, self.gone = status, gone


class _Again(Exception):
    """A try has failed; another may do better."""

    def __init__(self, why: str, *, answered: bool = False, wait: float = 0.0) -> None:
        """`answered`: it was an image that broke off, so the store is not away. `wait` in seconds."""
        super().__init__(why)
        self.answered, self.wait = answered, wait


@dataclass(frozen=True)
class MediaImage:
    """One image that was fetched."""

    file: IO[bytes]
    """Its bytes, at their start; in memory while there are few."""

    size_bytes: int
    sha256: str
    """Hexadecimal."""

    content_type: str
    """Told by its first bytes, whatever the store calls it."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, piece by piece."""
        while chunk := await asyncio.to_thread(self.file.read, _CHUNK_BYTES):
            yield chunk


class MediaStore:
    """Fetches images. To be opened inside an event loop."""

    def __init__(
        self, where: Address, *, token: str = "", max_bytes: int = 100 * 2**20, timeout_seconds: float = 40.0
    ) -> None:
        """`timeout_seconds` are for one image, all tries included.

        Raises ValueError for a token that no header can carry. It is told to nobody but the store.
        """
        if not re.fullmatch(r"[\x21-\x7e]*", token):
            raise ValueError("MEDIA_STORE_TOKEN holds a space or a character beyond ASCII")
        self._where, self._max_bytes, self._seconds = where, max_bytes, timeout_seconds
        self._headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator["MediaStore"]:
        """Keeps connections while it is open."""
        one_try = aiohttp.ClientTimeout(total=self._seconds * 0.45)  # there is time for a second
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=one_try,
            headers=self._headers,
            auto_decompress=False,  # what is small on the wire stays small here
            trust_env=False,
        ) as self._session:
            yield self

    async def trouble(self) -> str:
        """Why the store cannot be used, as far as a request to its base URL tells; empty if it answers."""
        assert self._session is not None, "the media store is not open"  # noqa: S101
        try:
            async with self._session.get(self._where.base, allow_redirects=False) as response:
                code = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return f"it answers {code}" if code >= 500 or code == 401 else ""

    async def fetch(self, media_id: str) -> MediaImage:
        """One image, whole and checked. Raises ImageRefused, and UNAVAILABLE if the store is away."""
        last = _Again(f"nothing came within {self._seconds:g} s")
        try:
            async with asyncio.timeout(self._seconds):
                for delay in (*DELAYS, None):
                    try:
                        return await self._in_turn(media_id)
                    except _Again as error:
                        last = error
                    if delay is None or last.wait > self._seconds / 4:
                        break  # whoever asked for the image is told how long to wait
                    log.info("media store asked again", id=media_id, why=str(last))
                    await asyncio.sleep(last.wait + random.uniform(delay / 2, delay))  # noqa: S311 - jitter
        except TimeoutError:
            pass
        raise self._given_up(media_id, last) from last

    async def _in_turn(self, media_id: str) -> MediaImage:
        async with self._places:
            return await self._try(media_id)

    def _given_up(self, media_id: str, error: _Again) -> Exception:
        if error.answered:
            text = f"The media store does not send {media_id!r} whole: {error}. Look at that image there."
            return ImageRefused(errors.status(code_pb2.DATA_LOSS, Reason.DATA_LOSS, text))
        text = (
            f"The media store at {self._where.base} cannot be used: {error}. Its operator has to see to it, "
            "or to MEDIA_STORE_URL and MEDIA_STORE_TOKEN."
        )
        code = grpc.StatusCode.UNAVAILABLE
        return MeshError(code, Reason.UNAVAILABLE, text, retry_delay=timedelta(seconds=error.wait) or None)

    async def _try(self, media_id: str) -> MediaImage:
        """Raises ImageRefused or _Again."""
        assert self._session is not None, "the media store is not open"  # noqa: S101
        answered = False
        try:
            async with self._session.get(self._where.url(media_id), allow_redirects=False) as response:
                self._check_answer(media_id, response)
                answered = True
                return await self._received(media_id, response)
        except TimeoutError as error:
            raise _Again("it did not answer in time", answered=answered) from error
        except aiohttp.ClientError as error:
            raise _Again(f"{type(error).__name__}: {error}", answered=answered) from error

    def _check_answer(self, media_id: str, response: aiohttp.ClientResponse) -> None:
        code = response.status
        if code >= 500 or code in _PASSING_CODES:
            raise _Again(f"it answered {code} {response.reason}", wait=_asked_wait(response))
        if code in _GONE_CODES:
            text = f"The media store has no image {media_id!r}. Check the id, or leave it out."
            raise ImageRefused(errors.status(code_pb2.NOT_FOUND, Reason.NOT_FOUND, text), gone=True)
        if 300 <= code < 400:
            text = f"The media store sends elsewhere for {media_id!r} ({code}); redirects are not followed."
            raise ImageRefused(errors.status(code_pb2.FAILED_PRECONDITION, Reason.BAD_URI, text))
        if code != 200:
            text = (
                f"The media store refuses {media_id!r}: {code} {response.reason}. Look at that image there."
            )
            raise ImageRefused(errors.status(code_pb2.PERMISSION_DENIED, Reason.PERMISSION_DENIED, text))
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_large(media_id)

    async def _received(self, media_id: str, response: aiohttp.ClientResponse) -> MediaImage:
        file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - its reader closes it
        digest, size, content_type = hashlib.sha256(), 0, ""
        try:
            async for chunk in _head_first(response.content):
                content_type = content_type or _type_of(media_id, chunk)
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large(media_id)
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            if not size:
                raise _no_image(media_id, "it sends no bytes for it")
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return MediaImage(file, size, digest.hexdigest(), content_type)

    def _too_large(self, media_id: str) -> ImageRefused:
        text = (
            f"What the media store sends for {media_id!r} has more than {self._max_bytes} bytes. Send a "
            "smaller image, or start the scheduler with a larger MEDIA_STORE_MAX_BYTES."
        )
        status = errors.status(code_pb2.INVALID_ARGUMENT, Reason.IMAGE_UNREADABLE, text)
        return ImageRefused(status)


def configured(settings: Settings) -> MediaStore | None:
    """The media store of these settings, if there is one. Raises ValueError naming what is wrong."""
    if not settings.media_store_url:
        return None
    return MediaStore(
        address(settings.media_store_url, settings.media_store_path),
        token=settings.media_store_token.get_secret_value(),
        max_bytes=settings.media_store_max_bytes,
        timeout_seconds=settings.media_store_timeout_seconds,
    )


async def _head_first(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The bytes as they come, the first piece long enough to tell what they are."""
    head = b""
    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        head += chunk
        if len(head) >= HEAD_BYTES:
            yield head
            head = b""
            break
    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        yield chunk
    if head:
        yield head


def _type_of(media_id: str, head: bytes) -> str:
    found = image_type(head)
    if not found:
        raise _no_image(media_id, "what it sends begins as no image does")
    return found


def _no_image(media_id: str, why: str) -> ImageRefused:
    text = f"The media store has no image under {media_id!r}: {why}. Formats are {', '.join(FORMATS)}."
    return ImageRefused(errors.status(code_pb2.INVALID_ARGUMENT, Reason.IMAGE_UNREADABLE, text))


def _asked_wait(response: aiohttp.ClientResponse) -> float:
    """Seconds that Retry-After asks for, as a number or a date; 0 without one that can be read."""
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return 0.0
    try:
        seconds = float(text) if text.isdecimal() else _until(parsedate_to_datetime(text))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _until(moment: datetime) -> float:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime.now(UTC)).total_seconds()
