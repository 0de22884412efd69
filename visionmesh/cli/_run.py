"""How a command runs and ends: exit codes, and errors as what, why and next."""

import asyncio
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any

import grpc
import typer
from rich.console import Console
from rich.markup import escape

from visionmesh.cli._console import status_console
from visionmesh.errors import MeshError
from visionmesh.v1 import vision_pb2


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    JOB_FAILED = 1
    REFUSED = 2
    CANCELLED = 3
    UNREACHABLE = 4
    TIMEOUT = 5
    INTERRUPTED = 130


def run(work: Coroutine[Any, Any, Exit]) -> None:
    """Run a command to its end and exit with its code."""
    try:
        code = asyncio.run(work)
    except MeshError as error:
        show_error(status_console(), error)
        code = exit_of_error(error)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        raise  # the reader of our output has left: the frame around us knows what to do
    except OSError as error:
        status_console().print(f"[bold red]Error[/] {escape(str(error))}")
        code = Exit.REFUSED
    if code is not Exit.OK:
        raise typer.Exit(int(code))


def exit_of_error(error: MeshError) -> Exit:
    """4 for a mesh that cannot be reached, 5 for one that is too slow, 2 for a refusal."""
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return Exit.UNREACHABLE
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Exit.TIMEOUT
    return Exit.REFUSED


def exit_of_state(state: "vision_pb2.JobState.ValueType") -> Exit:
    """The code for a job that ended in `state`; 5 for one that has not ended."""
    codes = {
        vision_pb2.JOB_STATE_SUCCEEDED: Exit.OK,
        vision_pb2.JOB_STATE_FAILED: Exit.JOB_FAILED,
        vision_pb2.JOB_STATE_CANCELLED: Exit.CANCELLED,
    }
    return codes.get(state, Exit.TIMEOUT)


def show_error(console: Console, error: MeshError) -> None:
    """Print what is wrong, where, and the reason that programs branch on."""
    whole_lines = not console.is_terminal
    if error.violations:
        console.print("[bold red]Refused[/]")
        for violation in error.violations:
            where = f"[bold]{escape(violation.field)}[/]: " if violation.field else ""
            console.print(f"  {where}{escape(violation.description)}", soft_wrap=whole_lines)
    else:
        console.print(f"[bold red]Error[/] {escape(error.message)}", soft_wrap=whole_lines)
    if error.retry_delay is not None:
        console.print(f"  Try again in {error.retry_delay.total_seconds():g} s.")
    names = dict.fromkeys((error.code.name, error.reason))
    console.print(f"  [dim]{escape(' · '.join(names))}[/]")
