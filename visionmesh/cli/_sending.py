"""A bar for one upload: packing, sending, and what the mesh does with it then."""

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


class Sending:
    """Shows an upload. Use it with `with`, and call it with the bytes done and the bytes in all."""

    def __init__(self, console: Console, what: str, then: str = "") -> None:
        self._what, self._then = what, then
        self._progress = Progress(
            TextColumn("[dim]{task.description}[/]"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(f"packing {what}", total=None)

    def __enter__(self) -> "Sending":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        waits = done >= total and self._then
        description = f"{self._then} {self._what}" if waits else f"sending {self._what}"
        self._progress.update(self._task, description=description, completed=done, total=total)
