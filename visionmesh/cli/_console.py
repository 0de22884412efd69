"""Where things are printed: data to stdout, everything else to stderr."""

import shutil
import sys

from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.message import Message
from rich.console import Console

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
