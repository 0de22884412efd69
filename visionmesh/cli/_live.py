"""Jobs while they run: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn

from visionmesh.cli import _words
from visionmesh.client import TERMINAL_STATES
from visionmesh.v1 import job_pb2, progress_pb2, vision_pb2

_COLUMN_WIDTH = 8  # of the longest number, and a blank
_FIXED_WIDTH = 28  # of a line about an epoch: its number, learning rate, time, "best"
_LEVEL_STYLES = {progress_pb2.LOG_LEVEL_WARNING: "yellow", progress_pb2.LOG_LEVEL_ERROR: "red"}
_SHOWN_STAGES = (vision_pb2.STAGE_TRAINING, vision_pb2.STAGE_PREDICTING)


@dataclass
class _Row:
    """What is known of one job on the board."""

    title: str
    task: TaskID
    total_epochs: int = 0
    metrics: list[str] = field(default_factory=list)
    start_time: float = 0.0  # of the newest attempt, in seconds since 1970 by the mesh's clock


class Board:
    """Shows the jobs that it is given, as their events tell it. Use it with `with`."""

    def __init__(self, console: Console, *, logs: bool = False) -> None:
        self._console = console
        self._logs = logs
        self._rows: dict[str, _Row] = {}
        self._shown_by: dict[str, Callable[[_Row, progress_pb2.JobEvent], None]] = {
            "state_changed": self._state_changed,
            "stage_changed": self._stage_changed,
            "attempt_started": self._attempt_started,
            "attempt_ended": self._attempt_ended,
            "epoch_completed": self._epoch_completed,
            "batch_progress": self._batch_progress,
            "images_progress": self._images_progress,
            "log_line": self._log_line,
            "log_gap": self._log_gap,
            "rejected": self._rejected,
        }
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=26),
            TextColumn("{task.fields[amount]}"),
            TextColumn("[dim]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def add(self, job: job_pb2.Job, title: str = "") -> None:
        """Put a job on the board."""
        shown = title or _words.kind(job)
        task = self._progress.add_task(
            shown, total=None, start=False, amount="", note=_words.state_name(job.state).lower()
        )
        row = _Row(shown, task, job.train.epochs if job.HasField("train") else 0)
        self._rows[job.name] = row

    def note(self, job: str, text: str) -> None:
        """Say in the job's bar what it is doing, or why it waits."""
        self._progress.update(self._rows[job].task, note=escape(text))

    def event(self, event: progress_pb2.JobEvent) -> None:
        """Show what happened."""
        kind = event.update.WhichOneof("update")
        if kind in self._shown_by:  # else it is newer than we are, or nothing to look at
            self._shown_by[kind](self._rows[event.job], event)

    def _state_changed(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        change = event.update.state_changed
        state = change.to_state
        self._progress.update(row.task, note=_words.state_name(state).lower())
        if state in TERMINAL_STATES:
            if state == vision_pb2.JOB_STATE_SUCCEEDED:
                self._progress.update(row.task, total=1.0, completed=1.0)
            self._progress.update(row.task, note=_words.styled_state(state))
            self._stop_clock(row, event)
        waits_again = state == vision_pb2.JOB_STATE_PENDING and change.from_state != 0
        message = escape(change.message) if waits_again or state == vision_pb2.JOB_STATE_FAILED else ""
        if message or not self._console.is_terminal:
            self._say(row, f"{_words.styled_state(state)} {message}".rstrip())

    def _stage_changed(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        change = event.update.stage_changed
        detail = f" {change.detail}" if change.detail and change.stage not in _SHOWN_STAGES else ""
        self._progress.update(row.task, note=escape(_words.stage_name(change.stage) + detail))

    def _attempt_started(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        started, attempt = event.update.attempt_started, event.attempt
        row.metrics = []
        self._start_clock(row, event)
        hardware = ", ".join(started.hardware) or started.device
        again = f"attempt {attempt} " if attempt > 1 else ""
        self._say(row, f"[dim]{again}started on {escape(hardware)}[/]")

    def _start_clock(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        """Begin at zero; a watch that comes late counts from when the attempt began."""
        self._progress.reset(row.task, start=True, total=None, completed=0)
        row.start_time = _seconds(event)
        task = self._task(row)
        if row.start_time and task.start_time is not None:
            task.start_time -= max(0.0, time.time() - row.start_time)

    def _stop_clock(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        self._progress.stop_task(row.task)
        task = self._task(row)
        if row.start_time and task.start_time is not None:
            took = max(0.0, _seconds(event) - row.start_time)
            task.stop_time = task.start_time + took
            # Rich remembers, and prefers to show, when the bar became full.
            task.finished_time = took if task.finished else None

    def _task(self, row: _Row) -> Task:
        return self._progress.tasks[self._progress.task_ids.index(row.task)]

    def _epoch_completed(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        epoch = event.update.epoch_completed
        row.total_epochs = epoch.total_epochs
        eta = f"{_words.span(epoch.eta.ToTimedelta().total_seconds())} left" if epoch.HasField("eta") else ""
        self._progress.update(
            row.task,
            total=float(epoch.total_epochs),
            completed=float(epoch.epoch),
            amount=f"epoch {epoch.epoch}/{epoch.total_epochs}",
            note=eta,
        )
        names = _fitting(_words.ordered(epoch.metrics), self._console.width - len(self._prefix(row)))
        if names != row.metrics:
            row.metrics = names
            self._say(row, f"[bold]{_epoch_header(names)}[/]")
        self._say(row, _epoch_line(epoch, names))

    def _batch_progress(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        batch = event.update.batch_progress
        if not (row.total_epochs and batch.epoch and batch.total_batches):
            return
        done = batch.epoch - 1 + batch.batch / batch.total_batches
        self._progress.update(
            row.task,
            total=float(row.total_epochs),
            completed=done,
            amount=f"epoch {batch.epoch}/{row.total_epochs}",
        )

    def _images_progress(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        images = event.update.images_progress
        failed = f" [red]{images.images_failed} unreadable[/]" if images.images_failed else ""
        self._progress.update(
            row.task,
            total=float(images.images_total) or None,
            completed=float(images.images_done),
            amount=f"{images.images_done}/{images.images_total} images{failed}",
        )

    def _log_line(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        line = event.update.log_line
        style = _LEVEL_STYLES.get(line.level, "")
        if style or self._logs:
            self._say(row, f"[{style or 'dim'}]{escape(line.message)}[/]")

    def _log_gap(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        self._say(row, f"[dim]{event.update.log_gap.dropped_lines} log lines were dropped[/]")

    def _rejected(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        message = escape(event.update.rejected.message)
        self._say(row, f"[yellow]the mesh could not accept a report: {message}[/]")

    def _attempt_ended(self, row: _Row, event: progress_pb2.JobEvent) -> None:
        ended = event.update.attempt_ended
        if ended.outcome in (vision_pb2.ATTEMPT_STATE_SUCCEEDED, vision_pb2.ATTEMPT_STATE_CANCELLED):
            return
        cause, message = _words.cause_name(ended.cause), escape(ended.error.message)
        self._say(row, f"[red]attempt {event.attempt} ended: {cause}[/] {message}".rstrip())

    def _say(self, row: _Row, text: str) -> None:
        prefix = self._prefix(row)
        self._progress.console.print(f"[cyan]{prefix}[/]{text}" if prefix else text)

    def _prefix(self, row: _Row) -> str:
        return f"{row.title:<9}" if len(self._rows) > 1 else ""


def _seconds(event: progress_pb2.JobEvent) -> float:
    return event.commit_time.seconds + event.commit_time.nanos / 1e9


def _fitting(names: list[str], width: int) -> list[str]:
    """As many metrics as a line of `width` columns has room for."""
    room = width - _FIXED_WIDTH
    for count, name in enumerate(names):
        room -= _width(name)
        if room < 0:
            return names[:count]
    return names


def _width(name: str) -> int:
    return max(_COLUMN_WIDTH, len(name) + 1)


def _epoch_header(names: list[str]) -> str:
    cells = "".join(f"{name:>{_width(name)}}" for name in names)
    return f"{'epoch':<7}{cells}{'rate':>9}{'time':>7}"


def _epoch_line(epoch: progress_pb2.EpochCompleted, names: list[str]) -> str:
    texts = [_words.number(epoch.metrics[name]) if name in epoch.metrics else "" for name in names]
    cells = "".join(f"{text:>{_width(name)}}" for name, text in zip(names, texts, strict=True))
    seconds = epoch.epoch_duration.ToTimedelta().total_seconds()
    best = " [green]best[/]" if epoch.is_best else ""
    number = f"{epoch.epoch}/{epoch.total_epochs}"
    return f"{number:<7}{cells}{epoch.learning_rate:>9.2g}{f'{seconds:.1f}s':>7}{best}"
