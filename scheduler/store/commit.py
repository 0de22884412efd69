"""Group commit: what streams bring while one transaction commits goes into the next, together.

A write that is refused drops out alone. If the transaction itself fails, its writes are tried
one by one, so that a single bad one cannot take the others with it. While the database is away or
full everything waits, unacknowledged: the streams stay, and their runners keep what they have sent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite

from scheduler.store.engine import Connection
from scheduler.store.passing import persistently
from scheduler.store.places import Lane
from scheduler.store.schema import artifacts, epochs, predictions
from scheduler.store.store import Change, Store
from scheduler.store.streams import Found, Reached, ResultsWrite, StreamWrite, apply_write
from visionmesh.errors import MeshError

MAX_MESSAGES = 4000
"""Most messages in one transaction, give or take one request: what else wants to write waits for it."""


@dataclass
class _Pending:
    write: StreamWrite[Any]
    done: asyncio.Future[Reached] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupCommitter:
    """Takes writes from many streams and commits them together."""

    def __init__(self, store: Store, queue_size: int = 1024) -> None:
        self._store = store
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue(queue_size)

    async def submit(self, write: StreamWrite[Any]) -> Reached:
        """Wait until `write` is on disk. Raises MeshError if it was refused."""
        return await (await self.begin(write))

    async def begin(self, write: StreamWrite[Any]) -> asyncio.Future[Reached]:
        """Queue `write`; what it returns ends as `submit` does. Writes commit in order of their begin."""
        pending = _Pending(write)
        await self._queue.put(pending)  # a full queue slows the stream down
        return pending.done

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            batch = [await self._queue.get()]
            messages = len(batch[0].write.messages)
            while messages < MAX_MESSAGES and not self._queue.empty():
                batch.append(self._queue.get_nowait())
                messages += len(batch[-1].write.messages)
            await self._commit(batch)

    async def _commit(self, batch: Sequence[_Pending]) -> None:
        try:
            await persistently(lambda: self._settled(batch), "what runners report")
        except Exception as error:
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            for pending in batch:
                await self._commit([pending])

    async def _settled(self, batch: Sequence[_Pending]) -> None:
        """Commit those whose streams still wait for it, and tell them."""
        wanted = [pending for pending in batch if not pending.done.done()]
        if not wanted:
            return
        outcomes = await self._transact([pending.write for pending in wanted])
        for pending, outcome in zip(wanted, outcomes, strict=True):
            _settle(pending, outcome)

    async def _transact(self, writes: Sequence[StreamWrite[Any]]) -> list[Reached | MeshError]:
        outcomes: list[Reached | MeshError] = []
        async with self._store.change(Lane.RUNNERS) as change:
            records = await change.jobs(write.job_id for write in writes)
            found = Found(known_images=await _known_images(change.connection, writes))
            for write in writes:
                try:
                    outcomes.append(apply_write(records.get(write.job_id), write, change.now, found))
                except MeshError as error:
                    outcomes.append(error)
            await _insert(change, found)
        return outcomes


def _settle(pending: _Pending, outcome: Reached | Exception) -> None:
    if pending.done.done():  # the stream is gone
        return
    if isinstance(outcome, Exception):
        pending.done.set_exception(outcome)
    else:
        pending.done.set_result(outcome)


async def _known_images(connection: Connection, writes: Sequence[StreamWrite[Any]]) -> set[tuple[str, int]]:
    by_job: dict[str, list[int]] = {}
    for write in writes:
        if isinstance(write, ResultsWrite):
            indices = [item.prediction.index for item in write.messages if item.HasField("prediction")]
            by_job.setdefault(write.job_id, []).extend(indices)
    known: set[tuple[str, int]] = set()
    for job_id, indices in by_job.items():
        if indices:
            query = select(predictions.c.image_index).where(
                predictions.c.job_id == job_id,
                predictions.c.image_index.between(min(indices), max(indices)),
            )
            known |= {(job_id, index) for index in (await connection.execute(query)).scalars()}
    return known


async def _insert(change: Change, found: Found) -> None:
    connection = change.connection
    if found.epochs:
        await connection.execute(insert(epochs), found.epochs)
    if found.predictions:
        await connection.execute(insert(predictions), found.predictions)
    if found.artifacts:
        upsert = upsert_sqlite if connection.dialect_name == "sqlite" else upsert_postgresql
        statement = upsert(artifacts)
        statement = statement.on_conflict_do_update(
            index_elements=["job_id", "path"],
            set_={"key": statement.excluded.key, "payload": statement.excluded.payload},
        )
        await connection.execute(statement, found.artifacts)


async def images_done(connection: Connection, job_id: str) -> int:
    """How many images from the first on are predicted without a gap."""
    query = select(func.count(), func.max(predictions.c.image_index)).where(predictions.c.job_id == job_id)
    count, highest = (await connection.execute(query)).one()
    if highest is None or highest + 1 == count:
        return int(count)
    query_all = select(predictions.c.image_index).where(predictions.c.job_id == job_id)
    ordered = (await connection.execute(query_all.order_by(predictions.c.image_index))).scalars()
    done = 0
    for index in ordered:
        if index != done:
            break
        done += 1
    return done
