"""Every refusal: its code, its one ErrorInfo, its field, its words; and how the command line shows it.

A row of the tables beside this file says who asks for what, and what must come back. The message
must say what is wrong, and what would be right or what to do next.
"""

import io
from typing import Any

import grpc
import pytest
import refused_files
import refused_jobs
import refused_reads
import refused_streams
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from refusal_world import Row, Table, World
from rich.console import Console

from visionmesh.cli._run import Exit, exit_of_error, show_error
from visionmesh.errors import DOMAIN, MeshError

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLES: list[Table] = [
    refused_jobs.CREATED,
    refused_jobs.INPUTS,
    refused_jobs.VERBS,
    refused_reads.PAGES,
    refused_reads.ABSENT,
    refused_reads.FILTERS,
    refused_reads.WATCHES,
    refused_reads.RESULTS,
    refused_files.UPLOADS,
    refused_files.ARCHIVES,
    refused_files.DATASETS,
    refused_files.NAMED,
    refused_streams.CONTROL,
    refused_streams.NUMBERED,
    refused_streams.FILES,
    refused_streams.UNDECODABLE,
]
ROWS = {case: row for table in TABLES for case, row in table.items()}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_refused(world: World, row: Row) -> None:
    with pytest.raises(MeshError) as caught:
        await row.ask(world)
    error = caught.value
    assert (error.code, error.reason) == (row.code, row.reason), error.message
    assert row.what in error.message
    assert row.instead in error.message
    if row.field:
        assert row.field in [violation.field for violation in error.violations]
    _check_details(error)
    _check_rendering(error, row)


def _check_details(error: MeshError) -> None:
    """One ErrorInfo of our domain, and the detail that goes with the code."""
    said = error.__context__ or error.__cause__
    assert isinstance(said, grpc.RpcError)
    status = rpc_status.from_call(said)
    assert status is not None
    details = {kind: _of_kind(status, kind) for kind in _KINDS}
    (info,) = details["ErrorInfo"]
    assert (info.domain, info.reason) == (DOMAIN, error.reason)
    expected = {
        grpc.StatusCode.INVALID_ARGUMENT: "BadRequest",
        grpc.StatusCode.NOT_FOUND: "ResourceInfo",
        grpc.StatusCode.FAILED_PRECONDITION: "PreconditionFailure",
    }.get(error.code)
    # What cannot be decoded has no field to blame.
    assert expected is None or len(details[expected]) == 1 or "decoded" in error.message


_KINDS = ("ErrorInfo", "BadRequest", "ResourceInfo", "PreconditionFailure")


def _of_kind(status: Any, kind: str) -> list[Any]:
    found = []
    for detail in status.details:
        message = getattr(error_details_pb2, kind)()
        if detail.Unpack(message):
            found.append(message)
    return found


def _check_rendering(error: MeshError, row: Row) -> None:
    """On a terminal: what is wrong, where, what next, and the words that programs branch on."""
    screen = io.StringIO()
    show_error(Console(file=screen, width=100, highlight=False), error)
    shown = screen.getvalue()
    for part in (row.what, row.instead, row.field, row.reason, row.code.name):
        assert part in shown
    assert exit_of_error(error) is Exit.REFUSED


async def test_every_row_has_a_name_of_its_own() -> None:
    assert len(ROWS) == sum(len(table) for table in TABLES)
