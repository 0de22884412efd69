"""What is left of an attempt whose agent died: its journal is delivered, and its end is told.

The job process died with the agent: its guardian saw to that. Registration names the attempt, so the
scheduler keeps it for as long as it takes, and tries the job again as soon as it knows the end. Files that
were not yet in the store when the agent died are lost with it; the next attempt goes on from the last
checkpoint that was.
"""

import asyncio
import shutil
from collections.abc import Iterator

import structlog

from runners.agent import ending
from runners.agent.attempt import Means
from runners.agent.ending import Stop
from runners.agent.journal import identities
from runners.agent.pump import now
from runners.agent.stream import AttemptLost
from runners.agent.streams import Streams
from visionmesh.v1 import progress_pb2, runner_pb2

log = structlog.get_logger(__name__)


class Remains:
    """Delivers what is left of one attempt. Make it inside a running event loop."""

    occupies_slot = False

    def __init__(self, ref: runner_pb2.AttemptRef, means: Means) -> None:
        """Raises OSError if the journal cannot be read."""
        self.ref = ref
        self.told = False
        """Whether the scheduler knows that the attempt is over."""
        self._streams = Streams(ref, means.journals, means.progress, means.results, recover=True)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._left = False
        self._log = log.bind(job=ref.job, attempt=ref.attempt)

    def cancel(self, stop: Stop) -> None:
        """It is ending already."""

    def kill(self, why: str) -> None:
        """Tell nobody: the attempt is over for the scheduler."""
        if not self._lost.done():
            self._lost.set_result(why)

    @property
    def is_dropped(self) -> bool:
        """Whether nobody is told any more."""
        return self._lost.done()

    def leave(self, why: str) -> None:
        """Stop; what is not delivered is for the next agent."""
        self._left = True
        self.kill(why)

    async def run(self) -> None:
        """Deliver it; afterwards nothing of it is left on this machine."""
        progress, results = self._streams.progress, self._streams.results
        self._log.info(
            "delivers a dead agent's journal", progress=progress.last_number, results=results.last_number
        )
        telling = asyncio.create_task(self._tell())
        tasks = [telling, asyncio.create_task(progress.run()), asyncio.create_task(results.run())]
        everything: set[asyncio.Future[object]] = {self._lost, *tasks}  # type: ignore[arg-type]
        try:
            done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            has_served = [self._report(ended) for ended in done]
            self.told = all(has_served) and not self._left
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._streams.remove if self.told else self._streams.close)

    async def _tell(self) -> None:
        progress, results = self._streams.progress, self._streams.results
        await results.delivered()
        if not self._streams.ends:
            why = "The runner's agent died and took the job process with it. What it had recorded is kept."
            last = ending.infrastructure(why).message(results.last_number)
            progress.put_now(now(progress_pb2.ProgressUpdate(attempt_ended=last)))
        await progress.delivered()

    def _report(self, ended: "asyncio.Future[object]") -> bool:
        """Log what came of it; whether the journal has done its work."""
        error = ended.exception()
        if error is None:
            self._log.info(
                "dead agent's journal", why=self._lost.result() if ended is self._lost else "delivered"
            )
        elif isinstance(error, AttemptLost):
            self._log.info("journal dropped", why=str(error))
        else:
            self._log.error("journal left for the next agent: a defect", exc_info=error)
            return False
        return True


def found(means: Means) -> Iterator[Remains]:
    """What agents before this one have left."""
    folder = means.journals.folder
    for part in sorted(folder.iterdir()) if folder.is_dir() else ():
        refs = {(identity.job, identity.attempt) for identity in identities(part)}
        if len(refs) != 1:
            log.warning("journal cannot be read; it is removed", folder=str(part))
            shutil.rmtree(part, ignore_errors=True)
            continue
        ((job, attempt),) = refs
        yield Remains(runner_pb2.AttemptRef(job=job, attempt=attempt), means)
