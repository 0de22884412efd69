"""RunnerService: sessions, objects, and what operators see and do."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any, cast

import grpc
from sqlalchemy import select

from scheduler.hub import Hub
from scheduler.inputs import InputResolver
from scheduler.oversize import fitting
from scheduler.publishing import attempt_prefix
from scheduler.services import pages
from scheduler.services.interceptor import check
from scheduler.services.session import Session
from scheduler.services.transfer import bytes_of, stored
from scheduler.settings import Settings
from scheduler.store import history, runners
from scheduler.store.engine import Connection
from scheduler.store.places import Lane
from scheduler.store.schema import runners as runners_table
from scheduler.store.store import Store
from visionmesh import names
from visionmesh.errors import Reason, invalid, not_found, superseded
from visionmesh.storage import ObjectStore
from visionmesh.v1 import runner_pb2, runner_pb2_grpc

SECONDS_PER_RUNNER = 0.001
"""Runners that are sent away come back one by one, about this far apart."""

Context = grpc.aio.ServicerContext[Any, Any]


class RunnerService(runner_pb2_grpc.RunnerServiceServicer):
    """See runner.proto."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        resolver: InputResolver,
        artifacts: ObjectStore,
        settings: Settings,
        heard: Callable[[str], None],
    ) -> None:
        self._store, self._hub, self._resolver = store, hub, resolver
        self._artifacts, self._settings, self._heard = artifacts, settings, heard
        self._sessions: dict[Session, asyncio.Task[Any]] = {}

    async def Connect(self, requests: AsyncIterator[runner_pb2.ConnectRequest], context: Context) -> None:
        """Serve a runner's control stream."""
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("register"):
            raise invalid(Reason.INVALID_ARGUMENT, "register", "the first message of Connect must register")
        check(first)
        session = Session(first.register, self._store, self._hub, self._resolver, self._settings, self._heard)
        self._sessions[session] = cast("asyncio.Task[Any]", asyncio.current_task())
        try:
            await session.run(requests, context)
        finally:
            del self._sessions[session]

    def send_away(self) -> None:
        """Ask every connected runner to connect anew: the more there are, the longer they take in all."""
        spread = len(self._sessions) * SECONDS_PER_RUNNER
        for session in self._sessions:
            session.send_away(timedelta(seconds=random.uniform(0, spread)))  # noqa: S311 - no secret

    async def all_gone(self, seconds: float) -> None:
        """Wait, that long at most, until every session that was cut has noted so in the database."""
        if self._sessions:
            await asyncio.wait(self._sessions.values(), timeout=seconds)

    async def FetchObject(self, request: runner_pb2.FetchObjectRequest, context: Context) -> None:
        """Send inputs of an attempt."""
        await self._require_live(names.job_id(request.job), request.attempt)
        async with aclosing(self._resolver.sources(names.job_id(request.job), request.uris)) as sources:
            async for source in sources:
                if request.headers_only:
                    await context.write(await source.head())
                    continue
                async for response in source.responses():
                    await context.write(response)

    async def StoreObject(
        self, requests: AsyncIterator[runner_pb2.StoreObjectRequest], context: Context
    ) -> runner_pb2.StoreObjectResponse:
        """Store a file of an attempt."""
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("header"):
            raise invalid(Reason.INVALID_ARGUMENT, "header", "the first message of StoreObject is the header")
        check(first)
        header = first.header
        job_id = names.job_id(header.job)
        await self._require_live(job_id, header.attempt)
        key = attempt_prefix(job_id, header.attempt) + header.path
        await stored(self._artifacts, key, bytes_of(requests), header.size_bytes, header.sha256)
        return runner_pb2.StoreObjectResponse(uri=self._artifacts.uri(key))

    async def _require_live(self, job_id: str, attempt: int) -> None:
        async with self._store.read(Lane.RUNNERS) as connection:
            live = await history.live_attempt(connection, job_id)
        if live is None:
            raise not_found("job", names.job_name(job_id))
        if live != attempt:
            raise superseded(names.job_name(job_id), attempt)

    async def ListRunners(
        self, request: runner_pb2.ListRunnersRequest, context: Context
    ) -> runner_pb2.ListRunnersResponse:
        """List runners by name."""
        size = request.page_size or pages.DEFAULT_PAGE_SIZE
        after = (pages.decode(request.page_token, "runners", (str,)) or [""])[0]
        now = await self._store.now()
        async with self._store.read() as connection:
            query = select(runners_table).where(runners_table.c.id > after).order_by(runners_table.c.id)
            rows = (await connection.execute(query.limit(size + 1))).mappings().all()
            found = [
                runners.message(row, await runners.live_attempts(connection, row["id"]), now)
                for row in rows[:size]
            ]
        shown = fitting(found, size)
        token = pages.encode("runners", [rows[len(shown) - 1]["id"]]) if len(rows) > len(shown) else ""
        return runner_pb2.ListRunnersResponse(runners=shown, next_page_token=token)

    async def GetRunner(self, request: runner_pb2.GetRunnerRequest, context: Context) -> runner_pb2.Runner:
        """Return one runner."""
        async with self._store.read() as connection:
            return await self._runner(connection, names.runner_id(request.name))

    async def DrainRunner(
        self, request: runner_pb2.DrainRunnerRequest, context: Context
    ) -> runner_pb2.Runner:
        """Give a runner no more jobs."""
        return await self._drain(names.runner_id(request.name), True)

    async def UndrainRunner(
        self, request: runner_pb2.UndrainRunnerRequest, context: Context
    ) -> runner_pb2.Runner:
        """Let a runner take jobs again."""
        return await self._drain(names.runner_id(request.name), False)

    async def _drain(self, runner_id: str, draining: bool) -> runner_pb2.Runner:
        async with self._store.change() as change:
            await runners.set_draining(change, runner_id, draining)
            return await self._runner(change.connection, runner_id)

    async def _runner(self, connection: Connection, runner_id: str) -> runner_pb2.Runner:
        query = select(runners_table).where(runners_table.c.id == runner_id)
        row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise not_found("runner", names.runner_name(runner_id))
        held = await runners.live_attempts(connection, runner_id)
        return runners.message(row, held, await self._store.now())
