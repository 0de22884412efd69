"""Sends a growing history: what is stored, then what comes, each once, without a gap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from scheduler.hub import Hub, job_topic
from scheduler.services.shared_reads import SharedReads
from scheduler.services.writer import WatchWriter
from visionmesh import names
from visionmesh.errors import MeshError, Reason


@dataclass(frozen=True)
class Patience:
    """How long a watch waits, in seconds."""

    bookmark: float
    stalled: float


class Tail:
    """One watch of one job."""

    def __init__(
        self,
        reads: SharedReads,
        hub: Hub,
        patience: Patience,
        context: "grpc.aio.ServicerContext[Any, Any]",
        bookmark: Callable[[int], Any],
    ) -> None:
        self._reads, self._hub, self._patience, self._bookmark = reads, hub, patience, bookmark
        self._writer = WatchWriter(context, patience.stalled)

    async def follow(self, job_id: str, after: int) -> None:
        """Send everything after sequence `after` until the job has ended and all is sent.

        Raises UNAVAILABLE when the scheduler is about to stop, SLOW_CONSUMER, and OUT_OF_RANGE if
        `after` lies beyond the history, or that has become shorter: the database was restored.
        """
        told, accepted = after, False
        with self._hub.subscribe(job_topic(job_id)) as subscription, self._reads.of(job_id) as pages:
            while True:
                self._hub.check_open()
                page = await pages.after(told, subscription.moment)
                if told > page.position.sequence:
                    raise beyond_history(job_id, told, page.position.sequence)
                if not accepted:
                    await self._writer.accept()
                    accepted = True
                for sequence, message in page.items:
                    await self._writer.write(message)
                    told = sequence
                if page.more:
                    continue
                # Numbers up to here may belong to the other watch: they are told by being passed over.
                told = max(told, page.position.sequence)
                if page.position.ended and told >= page.position.sequence:
                    return
                if self._writer.quiet_seconds >= self._patience.bookmark:
                    await self._writer.write(self._bookmark(told))
                if subscription.has_read(page.moment):
                    await subscription.wait(self._patience.bookmark - self._writer.quiet_seconds)


def beyond_history(job_id: str, told: int, last: int) -> MeshError:
    """OUT_OF_RANGE: to wait would be to pass over other events under the numbers that were told already."""
    text = (
        f"The history of {names.job_name(job_id)} ends at {last}, before {told}: the mesh's database was "
        "restored to an earlier state, or the number is of another job. Watch again from the beginning."
    )
    return MeshError(grpc.StatusCode.OUT_OF_RANGE, Reason.OUT_OF_RANGE, text, {"sequence": str(last)})
