"""Tells the other schedulers on the same PostgreSQL what a commit leads to, by NOTIFY.

A notice is a hint: it is sent after the commit, over a connection of its own, with what else was
committed meanwhile, and it may be lost. Everybody who waits for one also looks by itself.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from psycopg.rows import TupleRow
from sqlalchemy.engine import make_url

from scheduler.core.model import Cause
from scheduler.store.postgres import CONNECT
from scheduler.store.record import Effects, Stop

_CHANNEL = "visionmesh"
_MOST_NAMED = 20
"""Jobs, or stops, in one notice: PostgreSQL takes 8000 bytes."""
_RETRY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Notices:
    """Sends what this scheduler commits, and passes on what the others do."""

    def __init__(self, url: str, heard: Callable[[Effects], None]) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._heard = heard
        self._name = secrets.token_hex(8)
        self._pending = Effects()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def tell(self, effects: Effects) -> None:
        """Send it soon, together with what comes before that."""
        self._pending.add(effects)
        self._wake.set()

    def start(self) -> None:
        """Send and listen from now on; connects again whenever it must."""
        self._tasks = [asyncio.create_task(self._kept_up(work)) for work in (self._send, self._listen)]

    async def close(self) -> None:
        """Stop, and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _kept_up(self, work: Callable[["Link"], Any]) -> None:
        is_told = False
        while True:
            try:
                link = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **CONNECT)
                is_told = False
                async with link:
                    await work(link)
            except psycopg.Error as error:
                if not is_told:
                    log.warning("notices interrupted", why=str(error).strip())
                is_told = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def _send(self, link: "Link") -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            effects, self._pending = self._pending, Effects()
            for notice in _notices(effects):
                payload = json.dumps({"from": self._name, **notice}, separators=(",", ":"))
                await link.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, payload))

    async def _listen(self, link: "Link") -> None:
        await link.execute(f"LISTEN {_CHANNEL}".encode())
        async for notify in link.notifies():
            with suppress(ValueError, KeyError, TypeError):  # a newer version may say more, or otherwise
                notice = json.loads(notify.payload)
                if notice["from"] != self._name:
                    self._heard(_effects(notice))


Link = psycopg.AsyncConnection[TupleRow]


def _notices(effects: Effects) -> list[dict[str, Any]]:
    """What is to be said, in pieces that each fit into one notice."""
    jobs, stops = sorted(effects.changed), [_said(stop) for stop in effects.stops]
    pieces = range(0, max(len(jobs), len(stops), 1), _MOST_NAMED)
    notices = [{"jobs": jobs[at : at + _MOST_NAMED], "stops": stops[at : at + _MOST_NAMED]} for at in pieces]
    notices[-1] |= {name: True for name in ("claimable", "ended", "timed") if getattr(effects, name)}
    return [notice for notice in notices if any(notice.values())]


def _said(stop: Stop) -> list[object]:
    return [stop.runner_id, stop.job_id, stop.attempt, stop.grace_period.total_seconds(), stop.cause]


def _effects(notice: dict[str, Any]) -> Effects:
    return Effects(
        changed=set(notice["jobs"]),
        claimable=bool(notice.get("claimable")),
        ended=bool(notice.get("ended")),
        timed=bool(notice.get("timed")),
        stops=[
            Stop(runner_id, job_id, attempt, timedelta(seconds=grace), Cause(cause))
            for runner_id, job_id, attempt, grace, cause in notice["stops"]
        ],
    )
