"""Compares what attempts told, what their runners got acknowledged, and what watchers and readers see.

    told by the job process >= acknowledged to its agent <= stored; stored is a beginning of told

A job's watcher was there all along; the reader asks when everything is over.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fault_mesh import Follower, state
from paced_framework import NOTES

from visionmesh import names
from visionmesh.audit import History, check_history, read_history
from visionmesh.client import AsyncClient
from visionmesh.v1 import job_pb2, progress_pb2

Attempt = tuple[str, int]
"""The {job} of jobs/{job}, and a number."""

Told = list[tuple[int, dict[str, float]]]
"""Epochs with their metrics, in the order in which they were told."""


@dataclass(frozen=True)
class Evidence:
    """What is known without asking a scheduler."""

    told: dict[Attempt, Told]
    """By job processes: everything, whatever became of it."""
    acknowledged: dict[Attempt, int]
    """To agents: the number of the last message of ReportProgress that is on disk."""


def evidence(folder: Path, agents: Iterable[Path]) -> Evidence:
    """What the mesh in `folder` has left, and the logs of its agents, which are JSON with DEBUG."""
    told: dict[Attempt, Told] = {}
    for notes in (folder / NOTES).iterdir():
        job_id, _, number = notes.name.rpartition("-")
        with suppress(ValueError):  # killed while it wrote its last line, of something that it never told
            for line in notes.read_text().splitlines():
                epoch, metrics = json.loads(line)
                told.setdefault((job_id, int(number)), []).append((epoch, metrics))
    acknowledged: defaultdict[Attempt, int] = defaultdict(int)
    for log in agents:
        for job_id, attempt, number in _acknowledgements(log):
            acknowledged[job_id, attempt] = max(acknowledged[job_id, attempt], number)
    return Evidence(told, dict(acknowledged))


def _acknowledgements(log: Path) -> Iterable[tuple[str, int, int]]:
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError):  # another program's words, or a line that was cut
            entry = json.loads(line)
            if entry["event"] == "acknowledged" and entry["stream"] == "progress":
                yield names.job_id(entry["job"]), entry["attempt"], entry["number"]


async def problems(reader: AsyncClient, follower: Follower, epochs: int, known: Evidence) -> list[str]:
    """What is lost, doubled or made up of a job that should have told `epochs` epochs and succeeded."""
    job = await reader.job(follower.job.name).get()
    if state(job) != "SUCCEEDED":
        return [f"it is {state(job)}: {await why_not(follower)}"]
    history = await read_history(reader.job(job.name))
    found = [f"{check.name}: {problem}" for check in check_history(history) for problem in check.problems]
    if list(follower.events) != list(history.events):
        watched, read = len(follower.events), len(history.events)
        found.append(f"its watcher saw {watched} events, a fresh reader sees {read}, or others")
    completions = [e for e in history.events if e.update.state_changed.to_state == job.state]
    if len(completions) != 1:
        found.append(f"it was completed {len(completions)} times")
    for number in range(1, job.attempt + 1):
        found += _of_attempt(history, number, known)
    last = [told.update.epoch_completed.epoch for told in history.events if _is_epoch(told)][-1:]
    if last != [epochs]:
        found.append(f"its last epoch is {last}, and {epochs} were asked for")
    return found


async def why_not(follower: Follower) -> str:
    """Why a job has not ended, as far as the mesh knows."""
    last = [str(event).replace("\n", " ") for event in follower.events[-3:]]
    return f"{await follower.job.explain()} after {last}"


def _of_attempt(history: History, number: int, known: Evidence) -> Iterable[str]:
    """What is wrong with what is stored of one attempt."""
    key = (names.job_id(history.job.name), number)
    stored = [e for e in history.events if e.attempt == number and not e.update.HasField("state_changed")]
    acknowledged, told = known.acknowledged.get(key, 0), known.told.get(key, [])
    if len(stored) < acknowledged:
        yield f"lost: {acknowledged} messages of attempt {number} were acknowledged, {len(stored)} are stored"
    epochs = _epochs(stored)
    if epochs != told[: len(epochs)]:
        yield f"attempt {number} told {told}, and stored is {epochs}"
    if number == history.job.attempt and len(epochs) < len(told):
        yield f"lost: attempt {number}, which succeeded, told {told}, and stored is {epochs}"


def _epochs(events: Sequence[progress_pb2.JobEvent]) -> Told:
    epochs = [event.update.epoch_completed for event in events if _is_epoch(event)]
    return [(epoch.epoch, dict(epoch.metrics)) for epoch in epochs]


def _is_epoch(event: progress_pb2.JobEvent) -> bool:
    return event.update.HasField("epoch_completed")


class StateFollower:
    """Watches the states of all jobs from the beginning."""

    def __init__(self, client: AsyncClient) -> None:
        self.etags: dict[str, str] = {}
        self._task = asyncio.create_task(self._follow(client))
        self._news = asyncio.Condition()

    async def _follow(self, client: AsyncClient) -> None:
        async for response in client.watch_jobs():
            if response.HasField("job"):
                async with self._news:
                    self.etags[response.job.name] = response.job.etag
                    self._news.notify_all()

    async def behind(self, jobs: Sequence[job_pb2.Job], patience: float) -> list[str]:
        """Jobs of which it was not told what they are now, though it had `patience` seconds to be."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience), self._news:
                await self._news.wait_for(lambda: not self._missing(jobs) or self._task.done())
        return self._missing(jobs)

    def _missing(self, jobs: Sequence[job_pb2.Job]) -> list[str]:
        return [job.name for job in jobs if self.etags.get(job.name) != job.etag]

    async def close(self) -> None:
        """Stop watching. Raises what its watch ended with."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
