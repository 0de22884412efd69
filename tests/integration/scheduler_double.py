"""A scheduler that never answers one call, refuses another for a while, and has endless jobs to watch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
from grpc_status import rpc_status

from visionmesh.errors import MeshError, Reason, status_of
from visionmesh.v1 import job_pb2, job_pb2_grpc

RETRY_SECONDS = 2.4
MESSAGE_BYTES = 100_000


class SchedulerDouble(job_pb2_grpc.JobServiceServicer):
    """See above."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.asked, self.cancelled = asyncio.Event(), asyncio.Event()
        self.sent = 0

    async def GetJob(self, request: Any, context: Any) -> job_pb2.Job:
        self.metadata = dict(context.invocation_metadata())
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError("nobody sets that event")

    async def ListJobs(self, request: Any, context: Any) -> job_pb2.ListJobsResponse:
        error = MeshError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            Reason.STORE_FULL,
            "Later.",
            retry_delay=timedelta(seconds=RETRY_SECONDS),
        )
        await context.abort_with_status(rpc_status.to_status(status_of(error)))
        raise AssertionError("aborted")

    async def WatchJobs(self, request: Any, context: Any) -> AsyncIterator[job_pb2.WatchJobsResponse]:
        try:
            while True:
                yield job_pb2.WatchJobsResponse(job=job_pb2.Job(display_name="x" * MESSAGE_BYTES))
                self.sent += 1
        finally:
            self.cancelled.set()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, SchedulerDouble]]:
    """Its address, and itself."""
    server, double = grpc.aio.server(), SchedulerDouble()
    job_pb2_grpc.add_JobServiceServicer_to_server(double, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", double
    finally:
        await server.stop(0)
