"""A runner's numbered stream, from its opening message on."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from scheduler.store.commit import GroupCommitter
from scheduler.store.streams import StreamWrite
from visionmesh import names
from visionmesh.errors import Reason, invalid

MAX_MESSAGES = 1000


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
        if not first_number >= 1 or len(messages) > MAX_MESSAGES:
            text = f"numbers begin at 1, and at most {MAX_MESSAGES} messages go into one request"
            raise invalid(Reason.INVALID_ARGUMENT, "first_number", text)
        reached = await self._committer.submit(
            self._kind(self.job_id, self.attempt, first_number, list(messages))
        )
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
