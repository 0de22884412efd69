"""Puts the scheduler together and runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

import grpc
import structlog

from scheduler.catalog import Catalog
from scheduler.hub import Hub
from scheduler.inputs import InputResolver
from scheduler.listen import bind
from scheduler.lock import claimed
from scheduler.lookout import Lookout
from scheduler.media_fetch import MediaFetch
from scheduler.media_store import configured
from scheduler.publishing import Publisher
from scheduler.refusal import CannotStart, Refusal
from scheduler.services.acceptance import Acceptance
from scheduler.services.dataset import DatasetService
from scheduler.services.health import HealthServicer, add_health
from scheduler.services.interceptor import ErrorInterceptor
from scheduler.services.job import JobService
from scheduler.services.progress import ProgressService
from scheduler.services.reflection import add_reflection
from scheduler.services.result import ResultService
from scheduler.services.runner import RunnerService
from scheduler.services.tail import Patience
from scheduler.settings import Settings
from scheduler.store.commit import GroupCommitter
from scheduler.store.engine import sqlite_file
from scheduler.store.migrate import Upgrade
from scheduler.store.store import Store
from scheduler.sweeper import Sweeper
from visionmesh.datasets.archives import Limits
from visionmesh.limits import MAX_RECEIVED_BYTES
from visionmesh.storage import StoreError, open_store
from visionmesh.v1 import (
    dataset_pb2_grpc,
    job_pb2_grpc,
    progress_pb2_grpc,
    result_pb2_grpc,
    runner_pb2_grpc,
)

log = structlog.get_logger(__name__)

OPTIONS = (
    # The interceptor refuses earlier, and says why.
    ("grpc.max_receive_message_length", MAX_RECEIVED_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVED_BYTES),
    ("grpc.so_reuseport", 0),  # two schedulers on one port is a mistake, not a cluster
    # A ping after 5 s without a word. A dead link, where TCP itself hears nothing, is noticed 3 s later; a
    # frozen peer 10 s later, because the answer to a ping queues behind the files that come over a slow link.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Let clients ping as often as we do.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)


GRACE_SECONDS = 0.5
"""Time that calls have to end when the scheduler stops: runners and watchers are told to go at once."""


STORE_SECONDS = 20.0
"""Time that the object stores have to answer when the scheduler starts."""


@dataclass(frozen=True)
class Running:
    """A scheduler that serves."""

    address: str
    server: grpc.aio.Server
    health: HealthServicer
    upgrade: Upgrade | None
    """What was done to a database that was behind."""
    background: tuple["asyncio.Task[None]", ...]
    """What commits, sweeps and looks; one that ends by itself leaves a scheduler that must not go on."""


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Running]:
    """Serve until the context is left. Raises CannotStart."""
    hub = Hub()
    catalog, store, media = _opened(settings, hub)
    with claimed(settings.folder, sqlite_file(settings.resolved_database_url())) as claim:
        async with (
            media.open() if media is not None else nullcontext(),
            _serving(settings, hub, store, InputResolver(store, catalog, media), catalog) as running,
        ):
            claim.announce(running.address)
            yield running


def _opened(settings: Settings, hub: Hub) -> tuple[Catalog, Store, MediaFetch | None]:
    try:
        datasets, artifacts = settings.resolved_datasets_url(), settings.resolved_artifacts_url()
        limits = Limits(settings.max_archive_files, settings.max_archive_bytes)
        catalog = Catalog(open_store(datasets, "DATASETS"), open_store(artifacts, "ARTIFACTS"), limits)
        store = Store(settings.resolved_database_url(), hub.publish)
        images = configured(settings)
        return catalog, store, MediaFetch(images, store) if images is not None else None
    except ValueError as error:
        raise CannotStart(Refusal.BAD_SETTING, f"A setting is wrong. {error}") from error


@asynccontextmanager
async def _serving(
    settings: Settings, hub: Hub, store: Store, resolver: InputResolver, catalog: Catalog
) -> AsyncIterator[Running]:
    try:
        committer = GroupCommitter(store)
        sweeper = Sweeper(store, hub, settings)
        server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=_options(settings))
        runner_service = _add_services(server, settings, store, hub, committer, sweeper, resolver, catalog)
        health = add_health(server)
        add_reflection(server)
        port = bind(server, settings.host, settings.port)
        await _check(catalog)
        upgrade = await store.open()
        await server.start()
        await health.serve()
        works = (committer.run(), sweeper.run(), Lookout(store, hub).run(), health.follow(store.check))
        background = tuple(asyncio.create_task(work) for work in works)
        try:
            yield Running(f"{settings.host}:{port}", server, health, upgrade, background)
        finally:
            await health.enter_graceful_shutdown()
            stopping = asyncio.ensure_future(server.stop(GRACE_SECONDS))  # takes no new calls from here on
            runner_service.send_away()
            hub.close()
            await stopping
            await runner_service.all_gone(GRACE_SECONDS)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
    finally:
        await store.close()
        await catalog.close()


async def _check(catalog: Catalog) -> None:
    """Raise CannotStart unless the object stores can be used."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            await catalog.check()
    except StoreError as error:
        raise CannotStart(Refusal.STORE_UNUSABLE, str(error)) from error
    except TimeoutError:
        text = f"The object store has not answered within {STORE_SECONDS:g} s. See that its server runs"
        raise CannotStart(Refusal.STORE_UNUSABLE, f"{text} and STORAGE_ENDPOINT names it.") from None


def _add_services(
    server: grpc.aio.Server,
    settings: Settings,
    store: Store,
    hub: Hub,
    committer: GroupCommitter,
    sweeper: Sweeper,
    resolver: InputResolver,
    catalog: Catalog,
) -> RunnerService:
    patience = Patience(settings.bookmark_seconds, settings.stalled_watcher_seconds)
    job_pb2_grpc.add_JobServiceServicer_to_server(
        JobService(store, hub, Acceptance(store, resolver), catalog, patience), server
    )
    publisher = Publisher(store, catalog.artifacts)
    progress_pb2_grpc.add_ProgressServiceServicer_to_server(
        ProgressService(store, hub, committer, publisher, patience), server
    )
    result_pb2_grpc.add_ResultServiceServicer_to_server(
        ResultService(store, hub, committer, catalog.artifacts, patience), server
    )
    runner_service = RunnerService(store, hub, resolver, catalog.artifacts, settings, sweeper.heard)
    runner_pb2_grpc.add_RunnerServiceServicer_to_server(runner_service, server)
    dataset_pb2_grpc.add_DatasetServiceServicer_to_server(
        DatasetService(store, catalog, settings.max_upload_bytes), server
    )
    return runner_service


def _options(settings: Settings) -> tuple[tuple[str, int], ...]:
    if not settings.max_connection_age_seconds:
        return OPTIONS
    return (
        *OPTIONS,
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_seconds * 1000)),
        # Without it, an open stream would keep its connection for ever.
        ("grpc.max_connection_age_grace_ms", round(settings.max_connection_grace_seconds * 1000)),
    )
