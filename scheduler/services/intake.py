"""A runner's numbered stream, from its opening message on."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from scheduler.store.commit import GroupCommitter
from scheduler.store.streams import Reached, StreamWrite
from visionmesh import names
from visionmesh.errors import MeshError, Reason, invalid

MAX_MESSAGES = 1000

READ_AHEAD = 8
"""Requests of one stream that may wait for their commit: what has come already commits together."""

Numbered = tuple[int, Sequence[Any]]
"""First number and messages of a request."""


class Stream:
    """One open stream of one attempt."""

    def __init__(
        self, committer: GroupCommitter, kind: type[StreamWrite[Any]], job_id: str, attempt: int
    ) -> None:
        self._committer, self._kind = committer, kind
        self.job_id, self.attempt = job_id, attempt
        self.committed_number = 0

    async def take(self, first_number: int, messages: Sequence[Any]) -> int:
        """Commit messages; returns the highest committed number. Raises MeshError."""
        return _number(await (await self._begin(first_number, messages)))

    async def take_all(
        self, requests: AsyncIterable[Numbered], acknowledge: Callable[[int], Awaitable[None]]
    ) -> None:
        """Commit every request, and acknowledge each in turn, while the next ones are read already.

        Raises MeshError at the first that is refused; those behind it are refused for the gap.
        """
        ahead: asyncio.Queue[asyncio.Future[Reached] | None] = asyncio.Queue(READ_AHEAD)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_acknowledge_all(ahead, acknowledge))
                async for first_number, messages in requests:
                    await ahead.put(await self._begin(first_number, messages))
                await ahead.put(None)
        except* MeshError as errors:
            raise errors.exceptions[0] from None
        finally:
            while not ahead.empty():
                if (commit := ahead.get_nowait()) is not None:
                    commit.cancel()  # nobody is left to be told

    async def _begin(self, first_number: int, messages: Sequence[Any]) -> "asyncio.Future[Reached]":
        if not first_number >= 1 or len(messages) > MAX_MESSAGES:
            text = f"numbers begin at 1, and at most {MAX_MESSAGES} messages go into one request"
            raise invalid(Reason.INVALID_ARGUMENT, "first_number", text)
        return await self._committer.begin(
            self._kind(self.job_id, self.attempt, first_number, list(messages))
        )


async def _acknowledge_all(
    ahead: "asyncio.Queue[asyncio.Future[Reached] | None]", acknowledge: Callable[[int], Awaitable[None]]
) -> None:
    while (commit := await ahead.get()) is not None:
        await acknowledge(_number(await commit))


def _number(reached: Reached) -> int:
    if reached.error is not None:
        raise reached.error
    return reached.committed_number


class Intake:
    """Opens streams."""

    def __init__(self, committer: GroupCommitter) -> None:
        self._committer = committer

    async def open(self, requests: AsyncIterator[Any], kind: type[StreamWrite[Any]]) -> Stream:
        """Read the opening request. Raises INVALID_ARGUMENT, NOT_FOUND, ATTEMPT_SUPERSEDED."""
        async for request in requests:
            if not request.job.startswith("jobs/") or request.attempt < 1:
                text = "the first request of the stream must name job (jobs/{job}) and attempt (from 1)"
                raise invalid(Reason.INVALID_ARGUMENT, "job", text)
            stream = Stream(self._committer, kind, names.job_id(request.job), request.attempt)
            # Number 1 with no messages: asks how far the stream has come, and whether it still counts.
            opening = kind(stream.job_id, stream.attempt, 1, [])
            stream.committed_number = (await self._committer.submit(opening)).committed_number
            return stream
        raise invalid(Reason.INVALID_ARGUMENT, "job", "the stream ended before its first request")
