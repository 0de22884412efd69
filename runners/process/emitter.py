"""What a job process says: typed events, as protobuf to the agent or as JSON lines to people."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from runners.process.errors import Ending
from runners.process.framing import encode
from visionmesh.v1 import process_pb2, progress_pb2, result_pb2, vision_pb2

THROTTLE_SECONDS = 0.5
"""Time between two batch or image progress events."""

_MAX_LINE_BYTES = 8192


class Emitter:
    """Sends events in the order of the calls. Raises BrokenPipeError when the agent is gone."""

    def __init__(self, write: Callable[[Message], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`write` takes each ProcessEvent; see `to_fd` and `to_json_lines`."""
        self._write = write
        self._clock = clock
        self._last: dict[str, float] = {}

    @classmethod
    def open(cls, events_fd: int | None) -> "Emitter":
        """To the agent if it gave a file descriptor, else JSON lines on standard output.

        In the second case whatever else is printed goes to standard error from now on, by any library.
        """
        if events_fd is not None:
            return cls(to_fd(events_fd))
        sys.stdout.flush()
        lines_fd = os.dup(1)
        os.dup2(2, 1)
        return cls(to_json_lines(lines_fd))

    def started(self, started: progress_pb2.AttemptStarted) -> None:
        """The attempt runs; the first event."""
        self._progress(attempt_started=started)

    def ended(self, ending: Ending | None) -> None:
        """The attempt is over, well if `ending` is None; the last event."""
        ended = progress_pb2.AttemptEnded(outcome=vision_pb2.ATTEMPT_STATE_SUCCEEDED)
        if ending is not None:
            ended = progress_pb2.AttemptEnded(outcome=ending.outcome, cause=ending.cause, error=ending.error)
        self._write(process_pb2.ProcessEvent(ended=ended))

    def stage(self, stage: "vision_pb2.Stage.ValueType", detail: str = "") -> None:
        """Another stage begins."""
        self._progress(stage_changed=progress_pb2.StageChanged(stage=stage, detail=detail))

    def epoch(
        self,
        epoch: int,
        total_epochs: int,
        metrics: Mapping[str, float],
        *,
        learning_rate: float,
        duration_s: float,
        eta_s: float,
        is_best: bool,
    ) -> None:
        """An epoch, from 1, was trained and measured; metrics by canonical name."""
        completed = progress_pb2.EpochCompleted(
            epoch=epoch,
            total_epochs=total_epochs,
            metrics=metrics,
            learning_rate=learning_rate,
            is_best=is_best,
        )
        completed.epoch_duration.FromTimedelta(timedelta(seconds=duration_s))
        completed.eta.FromTimedelta(timedelta(seconds=eta_s))
        self._progress(epoch_completed=completed)

    def is_due(self, name: str) -> bool:
        """Whether enough time has passed since this last said so for "batch" or "images"."""
        now = self._clock()
        if now - self._last.get(name, -THROTTLE_SECONDS) < THROTTLE_SECONDS:
            return False
        self._last[name] = now
        return True

    def batch(
        self, epoch: int, batch: int, total_batches: int, *, loss: float, images_per_second: float
    ) -> None:
        """Batches went by. For each batch ask `is_due("batch")` first: a loss on a GPU costs a wait."""
        self._progress(
            batch_progress=progress_pb2.BatchProgress(
                epoch=epoch,
                batch=batch,
                total_batches=total_batches,
                loss=loss,
                images_per_second=images_per_second,
            )
        )

    def images(self, done: int, total: int, failed: int, eta_s: float | None = None) -> None:
        """Images went by; sent when due, and always for the last."""
        if not self.is_due("images") and done < total:
            return
        progress = progress_pb2.ImagesProgress(images_done=done, images_total=total, images_failed=failed)
        if eta_s is not None:
            progress.eta.FromTimedelta(timedelta(seconds=eta_s))
        self._progress(images_progress=progress)

    def log(self, level: "progress_pb2.LogLevel.ValueType", message: str) -> None:
        """Something to read, line by line; empty lines are dropped, long ones cut at 8 KiB."""
        for line in message.splitlines():
            text = line.rstrip().encode(errors="replace")[:_MAX_LINE_BYTES].decode(errors="ignore")
            if text:
                self._progress(log_line=progress_pb2.LogLine(level=level, message=text))

    def prediction(self, prediction: result_pb2.ImagePrediction) -> None:
        """Everything found in one image."""
        self._result(prediction=prediction)

    def training_result(self, result: result_pb2.TrainingResult) -> None:
        """What the training came to; a later one takes its place."""
        self._result(training=result)

    def validation_result(self, result: result_pb2.ValidationResult) -> None:
        """What the validation measured; a later one takes its place."""
        self._result(validation=result)

    def inference_result(self, result: result_pb2.InferenceResult) -> None:
        """Totals; later ones take their place."""
        self._result(inference=result)

    def file(self, file: process_pb2.OutputFile) -> None:
        """A file is complete below OUTPUT_PATH."""
        self._write(process_pb2.ProcessEvent(file=file))

    def checkpoint(self, artifact: str, path: str, epoch: int, *, resumable: bool, is_best: bool) -> None:
        """A checkpoint of the training after `epoch` is complete at `path` below OUTPUT_PATH."""
        self.file(
            process_pb2.OutputFile(
                path=path,
                artifact=artifact,
                kind=result_pb2.ARTIFACT_KIND_CHECKPOINT,
                content_type="application/octet-stream",
                checkpoint=progress_pb2.CheckpointSaved(epoch=epoch, resumable=resumable, is_best=is_best),
                metadata={"epoch": str(epoch), "resumable": str(resumable).lower()},
            )
        )

    def _progress(self, **update: Message) -> None:
        event = process_pb2.ProcessEvent(progress=progress_pb2.ProgressUpdate(**update))  # type: ignore[arg-type]
        event.progress.event_time.GetCurrentTime()
        self._write(event)

    def _result(self, **item: Message) -> None:
        self._write(process_pb2.ProcessEvent(result=result_pb2.ResultItem(**item)))  # type: ignore[arg-type]


def to_fd(fd: int) -> Callable[[Message], None]:
    """Writes length-delimited messages to `fd`; waits when the reader is slow."""

    def write(message: Message) -> None:
        _write_all(fd, encode(message))

    return write


def to_json_lines(fd: int) -> Callable[[Message], None]:
    """Writes proto3 JSON, one message per line, to `fd`."""

    def write(message: Message) -> None:
        _write_all(fd, MessageToJson(message, indent=None).encode() + b"\n")

    return write


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
