"""vmesh media: images of the external media store that jobs have named."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from visionmesh.cli import _words
from visionmesh.cli._console import print_messages, status_console
from visionmesh.cli._options import MeshOptions, Output, OutputOption
from visionmesh.cli._run import Exit, run
from visionmesh.cli._tables import plain_table
from visionmesh.client import AsyncClient
from visionmesh.v1 import dataset_pb2

State = dataset_pb2.MediaItemState

_PREFIX = "MEDIA_ITEM_STATE_"
_STYLES = {"PENDING": "yellow", "SYNCED": "green", "FAILED": "bold red", "GONE": "red"}


def list_(
    mesh: MeshOptions,
    media_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="Only these; all by default.", show_default=False),
    ] = None,
    state: Annotated[
        str, typer.Option(help="Only those that are pending, synced, failed or gone.", show_default=False)
    ] = "",
    limit: Annotated[int, typer.Option("--limit", help="Most images to list; 0 for all.", min=0)] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List images of the media store that jobs have named: how the last try to fetch each has ended."""
    wanted = _state(state)

    async def work() -> Exit:
        found: list[dataset_pb2.MediaItem] = []
        async with AsyncClient(mesh.address) as client:
            async for item in client.list_media_items(wanted, media_ids or ()):
                if limit and len(found) == limit:
                    status_console().print(f"[dim]only the first {limit}; --limit 0 lists all[/]")
                    break
                found.append(item)
        none = f"No such images. Name some in a job: vmesh infer --media ID …{mesh.flag}"
        print_messages(found, output, media_table(found, datetime.now(UTC)), none)
        return Exit.OK

    run(work())


def media_table(items: Iterable[dataset_pb2.MediaItem], now: datetime) -> Table:
    """One line per image; why the last try has failed."""
    table = plain_table("ID", "STATE", "SIZE", "TYPE", "TRIED", "JOB", "WHY", right=("SIZE",))
    for item in items:
        name = _name(item.state)
        table.add_row(
            escape(item.id),
            f"[{_STYLES.get(name, 'default')}]{name}[/]",
            _words.size(item.size_bytes) if item.size_bytes else "",
            item.content_type,
            _words.age(item.sync_time, now) if item.HasField("sync_time") else "",
            item.job,
            escape(item.error.message),
        )
    return table


def _state(text: str) -> State.ValueType:
    """The state of that name; unspecified for none."""
    if text and text.upper() not in _STYLES:
        known = ", ".join(name.lower() for name in _STYLES)
        raise typer.BadParameter(f"{text!r} is not a state; one of {known}", param_hint="--state")
    return State.Value(_PREFIX + (text.upper() or "UNSPECIFIED"))


def _name(state: State.ValueType) -> str:
    try:
        return State.Name(state).removeprefix(_PREFIX)
    except ValueError:  # of a newer server
        return f"STATE {state}"
