"""Log lines of a job, printed as they were said."""

import sys

import typer
from rich.text import Text

from visionmesh.cli._console import as_line, data_console, status_console
from visionmesh.cli._options import Output
from visionmesh.v1 import progress_pb2

_LEVELS = {
    "debug": progress_pb2.LOG_LEVEL_DEBUG,
    "info": progress_pb2.LOG_LEVEL_INFO,
    "warning": progress_pb2.LOG_LEVEL_WARNING,
    "error": progress_pb2.LOG_LEVEL_ERROR,
}
_STYLES = {
    progress_pb2.LOG_LEVEL_DEBUG: "dim",
    progress_pb2.LOG_LEVEL_WARNING: "yellow",
    progress_pb2.LOG_LEVEL_ERROR: "red",
}


def level_number(name: str) -> int:
    """The level of that name."""
    if name.lower() not in _LEVELS:
        message = f"{name!r} is not a level; one of {', '.join(_LEVELS)}"
        raise typer.BadParameter(message, param_hint="--level")
    return int(_LEVELS[name.lower()])


class LogPrinter:
    """Prints those events of a job that are log lines, or gaps between them."""

    def __init__(self, level: int, attempt: int | None, output: Output, *, timestamps: bool) -> None:
        self._level, self._attempt = level, attempt
        self._output, self._timestamps = output, timestamps
        self._console = data_console()

    def wants(self, event: progress_pb2.JobEvent) -> bool:
        """Whether the event is to be printed."""
        if self._attempt is not None and event.attempt != self._attempt:
            return False
        if event.update.HasField("log_gap"):
            return True
        # What came from standard output has no level, and counts as normal.
        level = event.update.log_line.level or progress_pb2.LOG_LEVEL_INFO
        return event.update.HasField("log_line") and level >= self._level

    def print(self, event: progress_pb2.JobEvent) -> None:
        """Print one event."""
        if self._output is not Output.TABLE:
            print(as_line(event), flush=True)
        elif event.update.HasField("log_gap"):
            dropped = event.update.log_gap.dropped_lines
            status_console().print(f"[dim]… {dropped} lines were dropped under pressure[/]")
        else:
            self._print_line(event)

    def _print_line(self, event: progress_pb2.JobEvent) -> None:
        line = event.update.log_line
        when = f"{event.update.event_time.ToJsonString()} " if self._timestamps else ""
        text = Text(when, style="dim", end="")
        text.append(line.message, style=_STYLES.get(line.level, "default"))
        self._console.print(text, soft_wrap=True)
        sys.stdout.flush()
