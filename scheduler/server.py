"""Puts the scheduler together and runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import grpc
import structlog

from scheduler.catalog import Catalog
from scheduler.hub import Hub
from scheduler.inputs import InputResolver
from scheduler.publishing import Publisher
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
from scheduler.store.store import Store
from scheduler.sweeper import Sweeper
from visionmesh.limits import MAX_RECEIVED_BYTES
from visionmesh.storage import open_store
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
    # Notice a frozen peer within 10 s: the keepalive timeout alone takes 65 s.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Let clients ping as often as we do.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True)
class Running:
    """A scheduler that serves."""

    address: str
    server: grpc.aio.Server
    health: HealthServicer


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Running]:
    """Serve until the context is left. Raises OSError if the address cannot be had."""
    hub = Hub()
    store = Store(settings.resolved_database_url(), hub.publish)
    try:
        await store.open()
        committer = GroupCommitter(store)
        sweeper = Sweeper(store, hub, settings)
        server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=OPTIONS)
        _add_services(server, settings, store, hub, committer, sweeper)
        health = add_health(server)
        add_reflection(server)
        port = _bind(server, settings)
        background = [asyncio.create_task(committer.run()), asyncio.create_task(sweeper.run())]
        await server.start()
        await health.serve()
        try:
            yield Running(f"{settings.host}:{port}", server, health)
        finally:
            await health.enter_graceful_shutdown()
            await server.stop(grace=0.5)
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    finally:
        await store.close()


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        port = 0
    if not port:
        raise OSError(
            f"{settings.host}:{settings.port} cannot be listened on; something else has it. "
            "Stop that, or choose another port (0 takes a free one)."
        )
    return port


def _add_services(
    server: grpc.aio.Server,
    settings: Settings,
    store: Store,
    hub: Hub,
    committer: GroupCommitter,
    sweeper: Sweeper,
) -> None:
    catalog = Catalog(
        open_store(settings.resolved_datasets_url()), open_store(settings.resolved_artifacts_url())
    )
    resolver = InputResolver(store, catalog)
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
    runner_pb2_grpc.add_RunnerServiceServicer_to_server(
        RunnerService(store, hub, resolver, catalog.artifacts, settings, sweeper.heard), server
    )
    dataset_pb2_grpc.add_DatasetServiceServicer_to_server(DatasetService(store, catalog), server)
