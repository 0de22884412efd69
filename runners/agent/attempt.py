"""One attempt on this runner, from its assignment to the acknowledgement of its end.

    fetch inputs -> start the job process -> pass on what it says -> upload what it left
    -> everything on PublishResults acknowledged -> attempt_ended acknowledged -> forget it

Beside this run the attempt's two streams. If one of them learns that the attempt is lost, the job
process is killed and nothing more is told.
"""

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from runners.agent import ending
from runners.agent.bucket_transfers import Buckets, BucketTransfers
from runners.agent.dataset_cache import DatasetCache
from runners.agent.ending import Ending, Stop
from runners.agent.gpus import Gpus
from runners.agent.guard import Guard, GuardianFailed, Guardians
from runners.agent.inputs import InputFailed, InputFetcher
from runners.agent.job_environment import (
    LocalInputs,
    UnknownKind,
    base_environment,
    gpu_environment,
    job_environment,
)
from runners.agent.job_process import JobProcess, LaunchFailed
from runners.agent.launcher import Launcher
from runners.agent.pump import Pump, now
from runners.agent.stream import AttemptLost
from runners.agent.streams import Journals, Streams
from runners.agent.transfers import SchedulerTransfers, Transfers
from runners.agent.uploads import Uploader
from runners.agent.weights import PublishedWeights
from visionmesh import names
from visionmesh.errors import Reason
from visionmesh.published import uses_published_weights
from visionmesh.v1 import (
    progress_pb2,
    progress_pb2_grpc,
    result_pb2_grpc,
    runner_pb2,
    runner_pb2_grpc,
    vision_pb2,
)

MARK_VARIABLE = "VISIONMESH_MARK"
"""By its random value a guardian knows the processes of its job, wherever they went."""

PROGRESS_SECONDS = 5.0
"""Time after which the job's history is told how far its inputs have come."""


@dataclass(frozen=True)
class Means:
    """What every attempt of an agent shares."""

    runners: "runner_pb2_grpc.RunnerServiceAsyncStub"
    buckets: Buckets
    progress: "progress_pb2_grpc.ProgressServiceAsyncStub"
    results: "result_pb2_grpc.ResultServiceAsyncStub"
    launcher: Launcher
    guardians: Guardians
    datasets: DatasetCache
    weights: PublishedWeights | None
    """None if the framework's models bring theirs along."""

    gpus: Gpus
    folder: Path
    """Each attempt has a folder of its own below it while it lives."""

    journals: Journals
    """What the scheduler has not acknowledged; it outlives the agent."""


class Attempt:
    """Runs one attempt. Make it inside a running event loop."""

    def __init__(self, assignment: runner_pb2.Assignment, means: Means) -> None:
        self.ref = runner_pb2.AttemptRef(job=assignment.job.name, attempt=assignment.attempt)
        self.told = False
        """Whether the scheduler knows that the attempt is over."""
        self.occupies_slot = True
        """Until its end is on its way: the scheduler may give the place away before it says that it knows."""
        self._assignment, self._means = assignment, means
        job_id = names.job_id(self.ref.job)
        self._folder = means.folder / f"{job_id}-{self.ref.attempt}"
        self._output = self._folder / "output"
        self._streams = Streams(self.ref, means.journals, means.progress, means.results)
        self._progress, self._results = self._streams.progress, self._streams.results
        self._transfers = self._chosen_transfers()
        self._uploader = Uploader(
            self._transfers,
            self.ref,
            self._output,
            self._folder / "uploads",
            self._results.put,
            self._progress.put,
            self._progress.delivered,
        )
        self._pump = Pump(self._progress, self._results, self._uploader, self._on_started)
        self._left = False
        self._stop: Stop | None = None
        self._process: JobProcess | None = None
        self._preparing: asyncio.Task[dict[str, str]] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._log = structlog.get_logger(__name__).bind(job=job_id, attempt=self.ref.attempt)

    def _chosen_transfers(self) -> Transfers:
        through = SchedulerTransfers(self._means.runners, self.ref)
        told = self._assignment
        if not told.datasets_bucket.url and not told.artifacts_bucket.url:
            return through
        return BucketTransfers(through, self._means.buckets, told, self._warn)

    def cancel(self, stop: Stop) -> None:
        """Let the attempt end early: at once while it prepares, in the grace given once it runs."""
        self._log.info("stop requested", why=stop.why, grace_s=stop.grace.total_seconds())
        self._stop = self._stop or stop  # the first cause counts
        if self._preparing is not None:
            self._preparing.cancel()
        if self._process is not None:
            self._ask_to_stop(self._process, stop)

    def _requested_stop(self) -> Stop | None:
        return self._stop

    def _ask_to_stop(self, process: JobProcess, stop: Stop) -> None:
        process.stop(stop.why)
        self._call_later(stop.grace, process.kill)

    def kill(self, why: str) -> None:
        """End it at once and tell nobody; the scheduler may have given its place away already."""
        self.occupies_slot = False
        if not self._lost.done():
            self._lost.set_result(why)

    @property
    def is_dropped(self) -> bool:
        """Whether it was ended at once, and goes."""
        return self._lost.done()

    def leave(self, why: str) -> None:
        """End it at once; what is not delivered is for the next agent."""
        self._left = True
        self.kill(why)

    async def run(self) -> None:
        """Run it to its end; afterwards nothing of it is left on this machine."""
        working = asyncio.create_task(self._work())
        streaming = [
            asyncio.create_task(part.run()) for part in (self._progress, self._results, self._uploader)
        ]
        everything: set[asyncio.Future[object]] = {working, self._lost, *streaming}  # type: ignore[arg-type]
        try:
            done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                self._report(ended)
        finally:
            for task in (working, *streaming):
                task.cancel()
            await asyncio.gather(working, *streaming, return_exceptions=True)
            self._cancel_timers()
            await asyncio.to_thread(self._streams.remove if self.told else self._streams.close)
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            self._means.datasets.release(self._folder)

    def _report(self, ended: "asyncio.Future[object]") -> None:
        error = ended.exception()
        if isinstance(error, AttemptLost):
            self.told = True
            self._log.warning("attempt dropped", why=str(error))
        elif error is not None:
            self._log.error("attempt dropped by a defect", exc_info=error)
        elif ended is self._lost:
            self.told = not self._left
            self._log.warning("attempt dropped", why=self._lost.result())

    async def _work(self) -> None:
        ended = await self._ending()
        outcome = vision_pb2.AttemptState.Name(ended.outcome)
        self._log.info("attempt ends", outcome=outcome, why=ended.error.message if ended.error else "")
        if not self._uploader.is_idle:
            self._stage(vision_pb2.STAGE_UPLOADING, "")
        await self._uploader.idle()
        if self._uploader.failure and ended.outcome == vision_pb2.ATTEMPT_STATE_SUCCEEDED:
            ended = ending.infrastructure(self._uploader.failure)
        await self._results.delivered()
        last = ended.message(self._results.last_number)
        self.occupies_slot = False
        self._progress.put_now(now(progress_pb2.ProgressUpdate(attempt_ended=last)))
        await self._progress.delivered()
        self.told = True

    async def _ending(self) -> Ending:
        """Prepare and run; how it ended. Raises AttemptLost."""
        try:
            environment = await self._prepared()
            return await self._run_process(environment)
        except InputFailed as failed:
            return failed.ending
        except UnknownKind as unknown:
            return ending.user_error(Reason.UNSUPPORTED, str(unknown))
        except _Stopped as stopped:
            return ending.stopped(stopped.stop)
        except (LaunchFailed, GuardianFailed, OSError) as error:
            self._log.error("job process not run", why=str(error))
            return ending.infrastructure(f"The runner could not run the job process: {error}")
        except AttemptLost:
            raise
        except Exception as error:
            self._log.exception("defect in the agent")
            return ending.infrastructure(f"The runner's agent has a defect: {error!r}")

    async def _prepared(self) -> dict[str, str]:
        if self._stop is not None:
            raise _Stopped(self._stop)
        self._preparing = asyncio.create_task(self._prepare())
        try:
            return await self._preparing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            stop = self._requested_stop()
            if stop is None or (task is not None and task.cancelling()):
                raise
            raise _Stopped(stop) from None
        finally:
            self._preparing = None

    async def _prepare(self) -> dict[str, str]:
        """Fetch the inputs; the job process's whole environment."""
        assignment, began = self._assignment, time.monotonic()
        self._stage(vision_pb2.STAGE_FETCHING_INPUTS, _wanted(assignment))
        await asyncio.to_thread(self._make_folder)
        first_image = 0
        if assignment.images:
            first_image = (await self._results.first_response()).images_done
        fetcher = InputFetcher(self._transfers, assignment, self._folder, self._means.datasets)
        telling = asyncio.create_task(self._tell_progress())
        try:
            inputs = await self._with_published(await fetcher.fetch(first_image))
        finally:
            telling.cancel()
        if fetcher.nothing_to_resume:
            self._warn(f"The training starts anew: {fetcher.nothing_to_resume}")
        detail = f"fetched {self._fetched()} in {time.monotonic() - began:.1f} s"
        self._stage(vision_pb2.STAGE_STARTING, detail)
        told = job_environment(assignment, inputs, self._output).to_environ()
        return {**base_environment(), **gpu_environment(assignment.gpu_indices), **told}

    async def _tell_progress(self) -> None:
        while True:
            before = self._fetched()
            await asyncio.sleep(PROGRESS_SECONDS)
            if self._fetched() != before:
                self._stage(vision_pb2.STAGE_FETCHING_INPUTS, f"{self._fetched()} so far")

    def _fetched(self) -> str:
        meter = self._transfers.meter
        return f"{meter.files} files, {meter.size_bytes / 1e6:.1f} MB,"

    async def _with_published(self, inputs: LocalInputs) -> LocalInputs:
        """`inputs`, with the published weights that the job uses, if it uses any."""
        job, weights = self._assignment.job, self._means.weights
        if weights is None or not uses_published_weights(job):
            return inputs
        path = await weights.get(getattr(job, job.WhichOneof("spec") or "").model)
        return replace(inputs, start_checkpoint=path) if inputs.resume else replace(inputs, checkpoint=path)

    def _make_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)  # of an agent before this one
        self._output.mkdir(parents=True)

    async def _run_process(self, environment: dict[str, str]) -> Ending:
        kills_before = ending.memory_kills()
        mark = secrets.token_hex(16)
        environment = {**environment, MARK_VARIABLE: mark}
        process = await self._means.launcher.launch(environment, self._output)
        guard: Guard | None = None
        try:
            guard = await self._means.guardians.take(process.pid, f"{MARK_VARIABLE}={mark}")
            self._process = process
            if self._stop is not None:
                self._ask_to_stop(process, self._stop)
            else:
                process.start()
            self._log.info("job process started", pid=process.pid)
            exit_code = await self._follow(process, guard)
        finally:
            self._process = None
            self._cancel_timers()
            process.kill()
            if guard is not None:
                await guard.dismiss()
            process.close()
        return ending.of_process(
            self._pump.said,
            exit_code,
            self._stop,
            memory_ran_out=ending.memory_kills() > kills_before,
            last_words=self._pump.last_words,
        )

    async def _follow(self, process: JobProcess, guard: Guard) -> int | None:
        """Pass on what it says until it has ended; its exit code."""
        pumping = asyncio.gather(self._pump.events(process), self._pump.output(process))
        sampling = asyncio.create_task(self._pump.samples(process, self._means.gpus))
        either: set[asyncio.Future[Any]] = {process.exited, pumping}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if pumping.done():
                pumping.result()  # a defect: nobody would read what the process says
            exit_code = await asyncio.shield(process.exited)
            process.kill()  # what it has left behind would keep the pipes open
            await guard.dismiss()
            await pumping
        finally:
            pumping.cancel()
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(pumping, sampling, return_exceptions=True)
        return exit_code

    def _on_started(self) -> None:
        if self._assignment.job.HasField("run_timeout"):
            limit = self._assignment.job.run_timeout.ToTimedelta()
            self._call_later(limit, lambda: self._time_out(limit))

    def _time_out(self, limit: timedelta) -> None:
        if self._process is not None:
            self.cancel(Stop.of_timeout(limit))

    def _call_later(self, delay: timedelta, call: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(delay.total_seconds(), call))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _warn(self, text: str) -> None:
        self._log.warning(text)
        line = progress_pb2.LogLine(level=progress_pb2.LOG_LEVEL_WARNING, message=text)
        self._progress.put_now(now(progress_pb2.ProgressUpdate(log_line=line)))

    def _stage(self, stage: "vision_pb2.Stage.ValueType", detail: str) -> None:
        changed = progress_pb2.StageChanged(stage=stage, detail=detail)
        self._progress.put_now(now(progress_pb2.ProgressUpdate(stage_changed=changed)))


class _Stopped(Exception):
    """The attempt was cancelled before its job process ran."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.why)
        self.stop = stop


def _wanted(assignment: runner_pb2.Assignment) -> str:
    parts = []
    if assignment.HasField("dataset"):
        parts.append(assignment.dataset.name)
    if assignment.HasField("checkpoint"):
        parts.append(f"checkpoint of {assignment.checkpoint.size_bytes / 1e6:.1f} MB")
    if uses_published_weights(assignment.job):
        parts.append("published weights")
    if assignment.images:
        parts.append(f"{len(assignment.images)} images")
    return ", ".join(parts)
