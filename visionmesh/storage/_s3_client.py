"""A bucket's client: made on first use, its errors in the store's words."""

import asyncio
import base64
import functools
import hashlib
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.loaders import Loader, create_loader

from visionmesh.storage.interface import (
    BucketMissing,
    DigestMismatch,
    NoCredentials,
    ObjectChanged,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from visionmesh.storage.s3_settings import DEFAULT_REGION, S3Settings

Client: TypeAlias = Any
"""aiobotocore's S3 client, which is made at run time."""

TRIES = 4
"""Times that one request is made, with doubling random waits, before the store counts as unavailable."""

BROKEN = (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError)
"""What a connection that breaks raises, beside what a server says."""

_CONNECT_SECONDS = 10.0
_CONNECTIONS = 64
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_NO_RIGHT = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem"})
_WRONG_KEYS = frozenset(
    {
        "SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken", "InvalidSecurity",
        "AuthorizationHeaderMalformed", "RequestTimeTooSkewed", "PermanentRedirect", "301",
    }
)  # fmt: skip
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "EntityTooLarge", "507", "InsufficientStorage"})
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "IncompleteBody"})


class Bucket:
    """One bucket of one server, as one who asks it sees it."""

    def __init__(self, name: str, settings: S3Settings) -> None:
        self.name, self.settings = name, settings
        self._making = asyncio.Lock()
        self._client: Client = None
        self._stack = AsyncExitStack()

    async def client(self) -> Client:
        """The client. Raises StoreRefused if the AWS configuration that it goes by is no good."""
        async with self._making:
            if self._client is None:
                with self.translated():
                    self._client = await self._stack.enter_async_context(self._made())
                    self._client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
        return self._client

    def _made(self) -> Any:
        known = self.settings
        core = get_session()
        core.register_component("data_loader", _descriptions())
        session = aioboto3.Session(
            botocore_session=core,
            aws_access_key_id=known.access_key or None,
            aws_secret_access_key=known.secret_key or None,
            region_name=known.region or None,
        )
        return session.client(
            "s3",
            endpoint_url=known.endpoint or None,
            region_name=session.region_name or DEFAULT_REGION,
            config=_config(known),
        )

    async def close(self) -> None:
        """Close the connections."""
        async with self._making:
            self._client = None
            await self._stack.aclose()

    @property
    def place(self) -> str:
        """For people: the bucket, and where."""
        return f"s3://{self.name} at {self.settings.endpoint or 'Amazon S3'}"

    @contextmanager
    def translated(self, key: str = "") -> Iterator[None]:
        """Raise what the interface promises for what the client raises.

        FileNotFoundError for `key`, or a StoreError, StoreFull, DigestMismatch.
        """
        try:
            yield
        except ClientError as error:
            raise self._said(error, key) from error
        except NoCredentialsError as error:
            raise NoCredentials(f"There are no credentials for {self.place}. {_SET_KEYS}") from error
        except (
            PartialCredentialsError, ProfileNotFound, TokenRetrievalError, NoRegionError
        ) as error:  # fmt: skip
            raise StoreRefused(f"{self.place} cannot be asked: {error}. {_SET_KEYS}") from error
        except BROKEN as error:
            why = str(error) or type(error).__name__
            fix = "See that the server runs and STORAGE_ENDPOINT names it; what was asked may be tried again."
            raise StoreUnavailable(f"{self.place} does not answer: {why}. {fix}") from error

    def _said(self, error: ClientError, key: str) -> Exception:
        code, why = code_of(error), _why(error)
        if code in _ABSENT and key:
            return FileNotFoundError(f"there is no {key!r} in {self.place}")
        if code == "NoSuchBucket" or code in _ABSENT:
            fix = "Create it, or name another in DATASETS_URL or ARTIFACTS_URL."
            return BucketMissing(f"The bucket of {self.place} does not exist. {fix}")
        if code in _NO_RIGHT:
            fix = f"Give the key rights to read, write, list and delete there. {_SET_KEYS}"
            return StoreRefused(f"{self.place} refused ({why}). {fix}")
        if code in _WRONG_KEYS:
            return StoreRefused(f"{self.place} does not accept who asks ({why}). {_SET_KEYS}")
        if code in _FULL:
            return StoreFull(f"there is no room in {self.place} ({why})")
        if code in {"PreconditionFailed", "412"}:
            return ObjectChanged(f"{key!r} in {self.place} was replaced while it was read. Read it anew.")
        if code in _DAMAGED:
            return DigestMismatch(f"{key!r} arrived damaged at {self.place} ({why})")
        fix = f"It was asked {TRIES} times; try again later, and see how the server is."
        return StoreUnavailable(f"{self.place} failed ({why}). {fix}")


_SET_KEYS = (
    "Set STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY, or an AWS profile, and STORAGE_REGION where the "
    "server has several."
)


@functools.cache
def _descriptions() -> Loader:
    """What botocore knows of S3. Read once: it takes a quarter of a second, and the client 10 ms."""
    return create_loader()


def code_of(error: ClientError) -> str:
    """The error's code in S3's words; the HTTP status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _why(error: ClientError) -> str:
    message = error.response.get("Error", {}).get("Message") or ""
    return f"{code_of(error)}: {message}" if message else code_of(error)


def _add_md5(params: dict[str, Any], **_: object) -> None:
    """The digest that older servers want where the client sends a newer one."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _config(settings: S3Settings) -> AioConfig:
    loopback = urlsplit(settings.endpoint).hostname in _LOOPBACK
    return AioConfig(
        signature_version="s3v4",
        connect_timeout=min(_CONNECT_SECONDS, settings.timeout_seconds),
        read_timeout=settings.timeout_seconds,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        s3={
            # A server of one's own has seldom a name for each bucket.
            "addressing_style": "path" if settings.endpoint else "auto",
            # The server compares what arrives with the SHA-256 that is signed, over TLS too.
            "payload_signing_enabled": True,
        },
        # Servers other than Amazon's do not know the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={} if loopback else None,  # this machine is not behind its own proxy
    )
