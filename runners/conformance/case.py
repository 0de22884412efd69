"""What a case is, and what it can do with the runner."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from runners.conformance import work
from runners.conformance.observed import Attempt, Failed
from runners.conformance.relay import Relay
from runners.conformance.runner_process import RunnerProcess
from runners.conformance.scheduler import Scheduler

CONNECT_SECONDS = 60.0
GONE_SECONDS = 10.0
"""Within so many seconds nothing may be left of an attempt that the runner has lost."""


@dataclass(frozen=True)
class Models:
    """Models to train; empty: the first of the runner's manifest."""

    usual: str = ""
    talkative: str = ""
    """One whose training says as much as it can; with none, the usual one."""


class World:
    """A scheduler, the way to it, and the runner."""

    def __init__(self, scheduler: Scheduler, relay: Relay, runner: RunnerProcess, models: Models) -> None:
        self.scheduler, self.relay, self.runner, self.models = scheduler, relay, runner, models
        self.seen = ""
        """What the case that passed last has seen."""
        self._case = ""
        self._count = 0

    async def begin(self, case: str) -> None:
        """Have a runner that is connected and has nothing to do. Raises Failed or OSError."""
        self._case = case
        self.scheduler.broken.clear()
        if not self.runner.is_running:
            self.scheduler.connections.clear()
            await self.runner.start()
        await self.until(self.is_connected, "R1", "a register and a heartbeat", CONNECT_SECONDS)

    def is_connected(self) -> bool:
        """Whether a control stream is open and its heart beats."""
        known = self.scheduler.connections
        return bool(known) and known[-1].is_open and bool(known[-1].beats)

    async def until(self, true: Callable[[], object], rule: str, what: str, seconds: float = 20.0) -> None:
        """Wait until something is true. Raises Failed."""
        await self.scheduler.until(true, rule, what, seconds)

    def training(self, epochs: int = 4, *, talkative: bool = False, salt: str = "") -> Attempt:
        """An attempt of this case that is known, and not assigned yet."""
        self._count += 1
        model = (self.models.talkative if talkative else "") or self.models.usual
        job = f"jobs/{self._case}-{self._count}"
        register = self.scheduler.connection.register
        attempt = Attempt(work.training(job, register, model, epochs, salt))
        self.scheduler.attempts[(attempt.job, attempt.number)] = attempt
        return attempt

    async def assign(self, attempt: Attempt) -> None:
        """Assign it and wait until it is accepted. Raises Failed.

        A runner may refuse while it still clears away what it was told to kill: it is asked again.
        """
        began = time.monotonic()
        while not await self._accepts(attempt):
            if time.monotonic() - began > GONE_SECONDS:
                raise Failed("R3", f"it is refused: {attempt.replies[-1].reason or 'for no reason'}")
            await self.quiet(1)

    async def _accepts(self, attempt: Attempt) -> bool:
        answered = len(attempt.replies)
        self.scheduler.say(assignment=attempt.assignment)
        await self.until(lambda: len(attempt.replies) > answered, "R3", "the answer to an assignment")
        return attempt.replies[-1].accepted

    async def started(self, **options: object) -> Attempt:
        """A long attempt that has told some epochs."""
        attempt = self.training(work.LONG, **options)  # type: ignore[arg-type]
        await self.assign(attempt)
        await self.until(lambda: len(attempt.updates("epoch_completed")) >= 2, "R6", "the first epochs")
        return attempt

    async def succeeded(self, attempt: Attempt, rule: str) -> int:
        """Wait for its good end; how many updates it took. Raises Failed."""
        await self.until(lambda: attempt.end is not None, rule, f"attempt_ended of {attempt.job}", 30.0)
        end = attempt.end
        if end is None or end.outcome != 5:  # SUCCEEDED
            raise Failed(rule, f"the attempt ended otherwise than well: {end}")
        asked = attempt.assignment.job.train.epochs
        epochs = [update.epoch_completed.epoch for update in attempt.updates("epoch_completed")]
        if epochs != list(range(1, asked + 1)):
            raise Failed("R7", f"epochs 1 to {asked} were due once each, and {epochs} are stored")
        if not attempt.results.stored:
            raise Failed("R13", "a training ended well without a result")
        await self.unnamed(attempt, rule)
        return len(attempt.progress.stored)

    async def unnamed(self, attempt: Attempt, rule: str, seconds: float = GONE_SECONDS) -> None:
        """Wait until heartbeats do not name it any more. Raises Failed."""
        key = (attempt.job, attempt.number)
        what = f"a heartbeat without {attempt.job}"
        beats = len(self.scheduler.connection.beats)

        def gone() -> bool:
            now = self.scheduler.connection
            return len(now.beats) != beats and bool(now.beats) and key not in now.beats[-1].attempts

        await self.until(gone, rule, what, seconds)

    async def dropped(self, attempt: Attempt, rule: str) -> str:
        """Wait until nothing is left of an attempt that the runner has lost. Raises Failed."""
        began = time.monotonic()
        await self.unnamed(attempt, rule)
        has_process = attempt.pid not in (0, self.runner.pid)
        if has_process:
            await self._dead(attempt.pid, rule)
        took = time.monotonic() - began
        sides = (attempt.progress, attempt.results)
        before = [(len(side.openings), side.received) for side in sides], attempt.touched_after
        await self.quiet(2)
        if ([(len(side.openings), side.received) for side in sides], attempt.touched_after) != before:
            raise Failed(rule, "something was sent for the attempt when it was gone from the heartbeats")
        return f"gone after {took:.1f} s" + (", its process too" if has_process else "")

    async def quiet(self, beats: int) -> None:
        """Let some heartbeats pass. Raises Failed."""
        until = len(self.scheduler.connection.beats) + beats
        await self.until(lambda: len(self.scheduler.connection.beats) >= until, "R2", "a heartbeat")

    async def _dead(self, pid: int, rule: str) -> None:
        try:
            async with asyncio.timeout(GONE_SECONDS):
                # A process that is not our child tells nobody of its end.
                while _lives(pid):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Failed(
                rule, f"job process {pid} lives {GONE_SECONDS:g} s after its attempt was lost"
            ) from None

    def forget(self) -> None:
        """Give every attempt away."""
        for attempt in self.scheduler.attempts.values():
            attempt.is_forgotten = True
            self.scheduler.cut(attempt.progress)
            self.scheduler.cut(attempt.results)
        self.scheduler.damages = 0

    async def end(self) -> None:
        """Take back whatever the case has left on the runner. Raises Failed."""
        self.forget()
        if self.runner.is_running and self.is_connected():
            await self.quiet(1)
            await self.until(lambda: not self.scheduler.named(), "R18", "a heartbeat without attempts")


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    except OSError:
        pass
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong, or right."""

    name: str
    rules: tuple[str, ...]
    says: str
    """What the scheduler does."""

    play: Callable[[World], Awaitable[str]]
    """Does it; what was seen. Raises Failed."""

    ends_runner: bool = False
    """The runner is gone afterwards, and the next case needs a fresh one."""
