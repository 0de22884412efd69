"""JobService: accepts jobs and answers for their state."""

import hashlib
import secrets
from typing import Any

import grpc
from google.protobuf import empty_pb2

from scheduler.admission.filters import parse_filter, parse_order
from scheduler.catalog import Catalog
from scheduler.core.model import TERMINAL
from scheduler.hub import Hub
from scheduler.publishing import job_prefixes
from scheduler.services import explain, pages
from scheduler.services.acceptance import Acceptance
from scheduler.services.job_watch import JobWatch
from scheduler.services.tail import Patience
from scheduler.store import history, jobs, listed_images, listing, media, present
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.errors import Reason, not_found, precondition
from visionmesh.v1 import job_pb2, job_pb2_grpc, vision_pb2

Context = grpc.aio.ServicerContext[Any, Any]
TERMINAL_NUMBERS = frozenset(vision_pb2.JobState.Value(f"JOB_STATE_{state}") for state in TERMINAL)
_OUTPUT = [
    "name",
    "state",
    "attempt",
    "progress",
    "error",
    "owner",
    "trace_id",
    "etag",
    "retried_from",
    "reproducibility",
    "failure_count",
    "attempts",
    "cancel_requested",
    "sequence",
    "create_time",
    "queue_time",
    "start_time",
    "end_time",
    "update_time",
    "retry_time",
]


class JobService(job_pb2_grpc.JobServiceServicer):
    """See job.proto."""

    def __init__(
        self, store: Store, hub: Hub, acceptance: Acceptance, catalog: Catalog, patience: Patience
    ) -> None:
        self._store, self._hub, self._acceptance = store, hub, acceptance
        self._catalog, self._patience = catalog, patience

    async def CreateJob(self, request: job_pb2.CreateJobRequest, context: Context) -> job_pb2.Job:
        """Accept a job."""
        return await self._create(request.job, request.request_id, request.validate_only)

    async def RetryJob(self, request: job_pb2.RetryJobRequest, context: Context) -> job_pb2.Job:
        """Create a job like one that has ended."""
        old = await self._get(request.name)
        if old.state not in TERMINAL_NUMBERS:
            text = f"Job {old.name} has not ended. Cancel it first, or wait; then retry it."
            raise precondition(Reason.JOB_NOT_ENDED, text, job=old.name)
        return await self._create(old, request.request_id, False, retried_from=old.name)

    async def _create(
        self, wanted: job_pb2.Job, request_id: str, validate_only: bool, retried_from: str = ""
    ) -> job_pb2.Job:
        job = _input_of(wanted)
        fingerprint = _fingerprint(job, retried_from)
        if not retried_from:  # the spec of another job is complete, and stays as it was
            job = await self._acceptance.completed(job)
        await self._acceptance.await_makers(job)
        job_id = names.new_id(str(job.WhichOneof("spec")).replace("_", "-"))
        async with self._store.read() as connection:
            known = await jobs.known_request(connection, "", request_id, fingerprint)
        if known is not None:
            return await self._get(known)
        inputs = await self._acceptance.check(job)
        if validate_only:
            async with self._store.read() as connection:
                waiting = await jobs.unsettled(connection, job)
            job.state = vision_pb2.JOB_STATE_PENDING if waiting else vision_pb2.JOB_STATE_QUEUED
            return job
        async with self._store.change() as change:
            name = names.job_name(job_id)
            before = await jobs.remember_request(change, "", request_id, fingerprint, name)
            if before is None:
                trace_id = secrets.token_hex(16)
                await jobs.create(change, job_id, job, trace_id=trace_id, retried_from=retried_from)
                await media.name_by(change, media.media_ids_of(job), job_id)
                if listed_images.reads_folders(job):
                    await listed_images.keep(change, job_id, (image.uri for image in inputs.images))
        return await self._get(before or name)

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        """Return one job."""
        return await self._get(request.name)

    async def _get(self, name: str) -> job_pb2.Job:
        async with self._store.read() as connection:
            job = await present.job(connection, names.job_id(name))
        if job is None:
            raise not_found("job", name)
        return job

    async def ListJobs(self, request: job_pb2.ListJobsRequest, context: Context) -> job_pb2.ListJobsResponse:
        """List jobs."""
        terms, order = parse_filter(request.filter), parse_order(request.order_by)
        query = f"{request.filter}\n{request.order_by}"
        after = pages.decode(request.page_token, query, (int, str))
        size = request.page_size or pages.DEFAULT_PAGE_SIZE
        async with self._store.read() as connection:
            found = await listing.page(connection, terms, order, after, size)
        token = ""
        if found.more:
            last = found.items[-1]
            token = pages.encode(query, listing.position(order, last, names.job_id(last.name)))
        return job_pb2.ListJobsResponse(jobs=found.items, next_page_token=token)

    async def WatchJobs(self, request: job_pb2.WatchJobsRequest, context: Context) -> None:
        """Send jobs whenever they change."""
        watch = JobWatch(self._store, self._hub, self._patience, context, request.filter)
        await watch.follow(request.resume_token)

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.Job:
        """Ask a job to stop."""
        grace = request.grace_period.ToTimedelta() if request.HasField("grace_period") else jobs.DEFAULT_GRACE
        async with self._store.change() as change:
            await jobs.cancel(change, names.job_id(request.name), grace)
        return await self._get(request.name)

    async def DeleteJob(self, request: job_pb2.DeleteJobRequest, context: Context) -> empty_pb2.Empty:
        """Delete a job that has ended, its row first: files without a row harm nobody."""
        job_id = names.job_id(request.name)
        async with self._store.change() as change:
            kind = await jobs.remove(change, job_id)
        for prefix in job_prefixes(kind, job_id):
            await self._catalog.artifacts.delete_prefix(prefix)
        return empty_pb2.Empty()

    async def ExplainJob(
        self, request: job_pb2.ExplainJobRequest, context: Context
    ) -> job_pb2.ExplainJobResponse:
        """Say why a job is where it is."""
        job = await self._get(request.name)
        now = await self._store.now()
        async with self._store.read() as connection:
            return await explain.explain(connection, job, now)

    async def ListJobEvents(
        self, request: job_pb2.ListJobEventsRequest, context: Context
    ) -> job_pb2.ListJobEventsResponse:
        """List a job's history."""
        job_id, size = names.job_id(request.parent), request.page_size or 100
        position = pages.decode(request.page_token, request.parent, (int,))
        after = position[0] if position else request.after_sequence
        async with self._store.read() as connection:
            if await history.position(connection, job_id) is None:
                raise not_found("job", request.parent)
            found = await history.read_events(connection, job_id, after, size)
        token = pages.encode(request.parent, [found.items[-1].sequence]) if found.more else ""
        return job_pb2.ListJobEventsResponse(events=found.items, next_page_token=token)


def _input_of(wanted: job_pb2.Job) -> job_pb2.Job:
    """The job without what only the server says."""
    job = job_pb2.Job()
    job.CopyFrom(wanted)
    for field in _OUTPUT:
        job.ClearField(field)  # type: ignore[arg-type]
    return job


def _fingerprint(job: job_pb2.Job, retried_from: str) -> str:
    content = job.SerializeToString(deterministic=True) + retried_from.encode()
    return hashlib.sha256(content).hexdigest()
