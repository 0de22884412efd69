"""Files between this machine and the buckets themselves, where the agent has credentials for them.

What an attempt may read is still said by the scheduler; only the bytes go past it. An agent that has no
credentials, or cannot use them, goes through the scheduler. Job processes never learn of any of this.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import structlog

from runners.agent.transfers import Arrived, Damaged, Incoming, Place, SchedulerTransfers
from visionmesh.errors import MeshError, Reason
from visionmesh.parallel import each
from visionmesh.storage import (
    BucketMissing,
    DigestMismatch,
    NoCredentials,
    ObjectChanged,
    ObjectStore,
    StoreError,
    StoreFull,
    StoreRefused,
    open_store,
    read_chunks,
    read_s3_settings,
)
from visionmesh.storage.s3_settings import S3Settings
from visionmesh.v1 import runner_pb2

SMALL_BYTES = 2 * 1024 * 1024
SMALL_AT_A_TIME, LARGE_AT_A_TIME = 16, 2
"""Each of the large is read in several ranges at a time; together they hold 16 MiB, the small ones 32."""

LOOK_SECONDS = 20.0
"""Time that a bucket has to answer when an attempt first needs it; else it goes through the scheduler."""

log = structlog.get_logger(__name__)


class Buckets:
    """The buckets that the scheduler has named, each opened once for all attempts."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, ...], ObjectStore] = {}
        self._opening = asyncio.Lock()

    async def open(self, owner: str, location: runner_pb2.BucketLocation) -> ObjectStore:
        """The bucket, asked as the agent's environment says: {owner}_STORAGE_*, STORAGE_*, AWS_*.

        Raises ValueError for an environment that is wrong.
        """
        key = (owner, location.url, location.endpoint, location.region)
        async with self._opening:
            if key not in self._opened:
                own = read_s3_settings(owner)
                settings = S3Settings(
                    own.endpoint or location.endpoint,
                    own.region or location.region,
                    own.access_key,
                    own.secret_key,
                    own.timeout_seconds,
                )
                self._opened[key] = await asyncio.to_thread(open_store, location.url, owner, settings)
            return self._opened[key]

    async def close(self) -> None:
        """Close them all."""
        for store in self._opened.values():
            await store.close()
        self._opened.clear()


class BucketTransfers:
    """To and from the buckets of an attempt, or through the scheduler where they cannot be used."""

    def __init__(
        self,
        scheduler: SchedulerTransfers,
        buckets: Buckets,
        assignment: runner_pb2.Assignment,
        warn: Callable[[str], object],
    ) -> None:
        """`warn` is told, for whoever runs the job, why a bucket is not used that credentials are for."""
        self._scheduler, self._buckets, self._assignment = scheduler, buckets, assignment
        self._warn = warn
        self._usable: list[ObjectStore] | None = None
        self._looking = asyncio.Lock()
        self.meter = scheduler.meter

    async def fetch(
        self, uris: Iterable[str], place: Place, arrived: Arrived
    ) -> list[runner_pb2.ObjectHeader]:
        """Small objects 16 at a time; each goes on where an earlier try broke off."""
        usable = await self._stores()
        wanted = list(uris)
        direct = [uri for uri in wanted if _place(usable, uri)]
        rest = [uri for uri in wanted if not _place(usable, uri)]
        headers = await self._scheduler.headers(direct) if direct else []
        single = set(direct)

        async def one(header: runner_pb2.ObjectHeader) -> None:
            try:
                await self._download(usable, header, place(header))
                arrived(header)
            except FileNotFoundError:
                if header.uri not in single:
                    text = f"{header.uri} is gone from its bucket."
                    raise MeshError(grpc.StatusCode.NOT_FOUND, Reason.NOT_FOUND, text) from None
                rest.append(header.uri)  # the scheduler says what that means

        async with self._said(usable):
            small = [header for header in headers if header.size_bytes <= SMALL_BYTES]
            large = [header for header in headers if header.size_bytes > SMALL_BYTES]
            await each(small, one, SMALL_AT_A_TIME)
            await each(large, one, LARGE_AT_A_TIME)
        came = [header for header in headers if header.uri not in rest]
        self.meter.files += len(came)
        return came + (await self._scheduler.fetch(rest, place, arrived) if rest else [])

    async def _download(
        self, usable: list[ObjectStore], header: runner_pb2.ObjectHeader, target: Path
    ) -> None:
        """Raises FileNotFoundError, Damaged or StoreError."""
        store, key = _found(usable, header.uri)
        incoming = await asyncio.to_thread(Incoming, header, target, resume=True)
        try:
            if incoming.size < header.size_bytes or not header.size_bytes:
                async with aclosing(store.get(key, incoming.size)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        await incoming.write(chunk)
                        self.meter.signs += 1
                        self.meter.size_bytes += len(chunk)
            incoming.finish()
        except (Damaged, DigestMismatch, ObjectChanged) as error:
            await asyncio.to_thread(target.unlink, missing_ok=True)  # the next try begins anew
            raise Damaged(str(error)) from error
        finally:
            incoming.close()

    async def store(self, header: runner_pb2.StoreObjectHeader, source: Path) -> str:
        """Into the attempt's own folder of the bucket, in parts if it is large."""
        usable = await self._stores()
        uri = self._assignment.output_uri + header.path
        if not _place(usable, uri):
            return await self._scheduler.store(header, source)
        bucket, key = _found(usable, uri)
        async with self._said(usable):
            await bucket.put(key, read_chunks(source), size_bytes=header.size_bytes, sha256=header.sha256)
        return uri

    async def _stores(self) -> list[ObjectStore]:
        """Those that can be used, found out once per attempt."""
        async with self._looking:
            if self._usable is None:
                told = self._assignment
                named = (("DATASETS", told.datasets_bucket), ("ARTIFACTS", told.artifacts_bucket))
                looked = [await self._look(owner, at) for owner, at in named if at.url]
                self._usable = [store for store in looked if store is not None]
            return self._usable

    async def _look(self, owner: str, location: runner_pb2.BucketLocation) -> ObjectStore | None:
        try:
            store = await self._buckets.open(owner, location)
            async with asyncio.timeout(LOOK_SECONDS):
                await store.check()
        except NoCredentials:
            log.info("no credentials: through the scheduler", bucket=location.url)
            return None
        except (StoreError, ValueError, TimeoutError) as error:
            self._tell_around(location.url, error)
            return None
        return store

    def _tell_around(self, url: str, error: Exception) -> None:
        why = str(error) or f"it has not answered within {LOOK_SECONDS:g} s"
        self._warn(f"Files go through the scheduler, because the runner cannot use {url} itself: {why}")

    @asynccontextmanager
    async def _said(self, usable: list[ObjectStore]) -> AsyncIterator[None]:
        """Raise a MeshError for what a bucket raises; one that refuses is not asked again by this attempt."""
        try:
            yield
        except (StoreRefused, BucketMissing) as error:
            for store in usable:
                self._tell_around(store.location[0] if store.location else "the store", error)
            usable.clear()
            raise _away(error) from error
        except StoreError as error:
            raise _away(error) from error
        except StoreFull as error:
            text = f"The object store is full: {error}. Delete jobs or datasets, or give it more room."
            raise MeshError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.STORE_FULL, text) from error
        except DigestMismatch as error:
            raise MeshError(
                grpc.StatusCode.DATA_LOSS, Reason.DATA_LOSS, f"{error}. Send it again."
            ) from error


def _away(error: StoreError) -> MeshError:
    return MeshError(grpc.StatusCode.UNAVAILABLE, Reason.STORE_UNAVAILABLE, str(error))


def _place(usable: list[ObjectStore], uri: str) -> bool:
    return any(store.key_of(uri.rstrip("/")) is not None for store in usable)


def _found(usable: list[ObjectStore], uri: str) -> tuple[ObjectStore, str]:
    """The store that a URI is of, and the key in it."""
    for store in usable:
        key = store.key_of(uri)
        if key is not None:
            return store, key
    raise Damaged(f"{uri!r} lies in no bucket of this attempt")
