"""Where things are printed: data to stdout, everything else to stderr."""

import json
import shutil
import sys
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.message import Message
from rich.console import Console, RenderableType

from visionmesh.cli._options import Output

_PIPE_WIDTH = 200  # columns for tables that no terminal cuts


def data_console() -> Console:
    """Writes to stdout."""
    return _console(stderr=False)


def status_console() -> Console:
    """Writes to stderr: progress, remarks, errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else max(_PIPE_WIDTH, shutil.get_terminal_size().columns)
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def print_message(message: Message, output: Output, table: RenderableType) -> None:
    """Print one message: as `table` for people, as JSON for programs."""
    if output is Output.TABLE:
        data_console().print(table, soft_wrap=isinstance(table, str))
    else:
        print(as_json(message) if output is Output.JSON else as_line(message), flush=True)


def print_messages(messages: Sequence[Message], output: Output, table: RenderableType, none: str) -> None:
    """Print a list: as `table`, or the remark `none` if it is empty; as a JSON array; or a line each."""
    if output is Output.JSON:
        print(json.dumps([as_object(message) for message in messages], indent=2, ensure_ascii=False))
    elif output is Output.JSONL:
        for message in messages:
            print(as_line(message))
    elif messages:
        data_console().print(table)
    else:
        status_console().print(none)


def as_json(message: Message) -> str:
    """`message` as indented proto3 JSON."""
    return MessageToJson(message, ensure_ascii=False)


def as_line(message: Message) -> str:
    """`message` as proto3 JSON on one line."""
    return MessageToJson(message, indent=None, ensure_ascii=False)


def as_object(message: Message) -> dict[str, object]:
    """`message` as the object that its proto3 JSON describes."""
    read: dict[str, object] = MessageToDict(message)
    return read
