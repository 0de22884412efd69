"""Passes on what a job process says and prints, at the speed at which the scheduler takes it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import structlog

from runners.agent.gpus import Gpus
from runners.agent.job_process import JobProcess
from runners.agent.logs import LineCollector, RateLimit
from runners.agent.oversized import fitting_result, fitting_update
from runners.agent.samples import SAMPLE_SECONDS, Sampler
from runners.agent.streams import Progress, Results
from runners.agent.uploads import BadFile, Uploader
from runners.process.framing import Decoder, FramingError
from visionmesh.v1 import process_pb2, progress_pb2, result_pb2

LOGS_GIVE_WAY = 0.5
"""Pressure from which log lines are dropped and counted."""

SAMPLES_GIVE_WAY = 0.75
"""Pressure from which batch progress and load samples are dropped."""

_READ_BYTES = 64 * 1024
_LINGER_SECONDS = 2.0
_PASSED_ON = frozenset({"stage_changed", "epoch_completed", "attempt_started"})
_GIVES_WAY = frozenset({"batch_progress", "images_progress"})


class Pump:
    """Carries events, printed lines and load samples of one job process to its streams."""

    def __init__(
        self,
        progress: Progress,
        results: Results,
        uploader: Uploader,
        on_started: Callable[[], None],
    ) -> None:
        """`on_started` is called when the job process says that it has started."""
        self._progress, self._results, self._uploader = progress, results, uploader
        self._on_started = on_started
        self._limit = RateLimit(time.monotonic())
        self._dropped_lines = 0
        self._log = structlog.get_logger(__name__)
        self.said: progress_pb2.AttemptEnded | None = None
        """How the job process says that it ended; its last event."""
        self.last_words = ""
        """The last line that it printed or logged."""

    async def events(self, process: JobProcess) -> None:
        """Pass on events until there are no more; a full outbox makes the job process wait."""
        decoder: Decoder[process_pb2.ProcessEvent] = Decoder(process_pb2.ProcessEvent)
        try:
            while data := await _read(process.events, process.exited):
                for event in decoder.feed(data):
                    await self._event(event)
        except FramingError as error:
            self.last_words = f"(it wrote something else to its event pipe: {error})"
            process.kill()

    async def output(self, process: JobProcess) -> None:
        """Pass on what it prints."""
        collector = LineCollector()
        while data := await _read(process.output, process.exited):
            for line in collector.feed(data):
                self._say(progress_pb2.LogLine(message=line))
        for line in collector.finish():
            self._say(progress_pb2.LogLine(message=line))
        self._tell_gap()

    async def samples(self, process: JobProcess, gpus: Gpus) -> None:
        """Measure every few seconds until cancelled."""
        sampler = Sampler(process.pid, gpus)
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            sample = await asyncio.to_thread(sampler.sample)
            if self._progress.pressure < SAMPLES_GIVE_WAY:
                self._progress.put_now(now(progress_pb2.ProgressUpdate(system_sample=sample)))

    async def _event(self, event: process_pb2.ProcessEvent) -> None:
        if self.said is not None:
            return
        match event.WhichOneof("event"):
            case "progress":
                await self._update(event.progress)
            case "result" if event.result.WhichOneof("item") not in (None, "artifact"):
                await self._result(event.result)
            case "file":
                self._file(event.file)
            case "ended":
                self.said = event.ended
            case other:
                self._log.warning("event of the job process ignored", event=other)

    async def _result(self, item: result_pb2.ResultItem) -> None:
        """Pass on a result; a prediction when the files before it, which it may name, are in the store.

        A later attempt goes on behind the last prediction that is stored, and makes no file anew.
        """
        if item.HasField("prediction"):
            await self._uploader.idle()
            if self._uploader.failure:
                return  # the attempt fails for it, and another will predict this image
        await self._results.put(fitting_result(item))

    async def _update(self, update: progress_pb2.ProgressUpdate) -> None:
        kind = update.WhichOneof("update") or ""
        if kind == "log_line":
            self._say(update.log_line, update)
        elif kind in _GIVES_WAY:
            if self._progress.pressure < SAMPLES_GIVE_WAY:
                await self._progress.put(now(update))
        elif kind in _PASSED_ON:
            await self._progress.put(fitting_update(now(update)))
            if kind == "attempt_started":
                self._on_started()
        else:
            # A job process must not end its own attempt, nor write what only the scheduler does.
            self._log.warning("update of the job process ignored", update=kind)

    def _file(self, file: process_pb2.OutputFile) -> None:
        try:
            self._uploader.take(file)
        except BadFile as error:
            self._uploader.failure = str(error)
            line = progress_pb2.LogLine(level=progress_pb2.LOG_LEVEL_ERROR, message=str(error)[:2000])
            self._say(line)

    def _say(self, line: progress_pb2.LogLine, update: progress_pb2.ProgressUpdate | None = None) -> None:
        self.last_words = line.message
        if self._progress.pressure >= LOGS_GIVE_WAY or not self._limit.allows(time.monotonic()):
            self._dropped_lines += 1
            return
        self._tell_gap()
        self._progress.put_now(now(update or progress_pb2.ProgressUpdate(log_line=line)))

    def _tell_gap(self) -> None:
        if self._dropped_lines:
            gap = progress_pb2.LogGap(dropped_lines=self._dropped_lines)
            self._progress.put_now(now(progress_pb2.ProgressUpdate(log_gap=gap)))
            self._dropped_lines = 0


def now(update: progress_pb2.ProgressUpdate) -> progress_pb2.ProgressUpdate:
    """`update` with the present time, unless it has one."""
    if not update.HasField("event_time"):
        update.event_time.GetCurrentTime()
    return update


async def _read(reader: asyncio.StreamReader, exited: "asyncio.Future[int | None]") -> bytes:
    """The next bytes; none at the end.

    A process that left the job's session may keep the pipe open for ever: once the job process has
    exited, silence is the end too.
    """
    reading = asyncio.create_task(reader.read(_READ_BYTES))
    either: set[asyncio.Future[Any]] = {reading, exited}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            await asyncio.wait({reading}, timeout=_LINGER_SECONDS)
        return reading.result() if reading.done() else b""
    finally:
        if not reading.done():
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
