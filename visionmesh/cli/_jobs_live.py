"""The list of jobs while they change: a table on a terminal, a line per change elsewhere."""

from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from visionmesh.cli import _words
from visionmesh.cli._tables import jobs_table, progress_text
from visionmesh.v1 import job_pb2

_REFRESH = 4.0  # times a second
_FRAME_LINES = 2  # of the screen: the header, and the line that the cursor is in


class JobsBoard:
    """Shows what WatchJobs sends. Use it with `with`."""

    def __init__(self, console: Console, limit: int) -> None:
        self._console, self._limit = console, limit
        self._jobs: dict[str, job_pb2.Job] = {}
        self._lines: dict[str, str] = {}
        self._complete = False
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=_REFRESH)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, change: job_pb2.WatchJobsResponse) -> None:
        """Show a job as it is now, or that it has left the list."""
        match change.WhichOneof("message"):
            case "job":
                self._jobs[change.job.name] = change.job
                self._say(change.job.name, self._line(change.job))
            case "left":
                self._jobs.pop(change.left, None)
                self._say(change.left, "gone")
            case "bookmark":
                self._complete = True

    def _say(self, name: str, line: str) -> None:
        """Off a terminal: print what differs from what was printed of the job before."""
        if not self._console.is_terminal and self._lines.get(name) != line:
            self._lines[name] = line
            self._console.print(f"{name} {line}", soft_wrap=True)

    def _line(self, job: job_pb2.Job) -> str:
        words = (_words.kind(job), _words.styled_state(job.state), progress_text(job))
        return " ".join(word for word in words if word)

    def _table(self) -> RenderableType:
        room = max(1, self._console.height - _FRAME_LINES)
        shown = sorted(self._jobs.values(), key=lambda job: job.create_time.ToNanoseconds(), reverse=True)
        if not shown:
            return "No jobs yet." if self._complete else "…"
        return jobs_table(shown[: min(room, self._limit or room)], datetime.now(UTC))
