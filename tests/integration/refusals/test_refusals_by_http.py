"""Every refusal that can be asked for by HTTP has the same reason, words and fields, and its HTTP status."""

import copy
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
import pytest_asyncio
import refused_files
import refused_jobs
import refused_reads
from http_stubs import HttpStub, Unsayable
from live_gateway import before
from refusal_world import World

from visionmesh.errors import MeshError, Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLES = [
    refused_jobs.CREATED,
    refused_jobs.VERBS,
    refused_reads.PAGES,
    refused_reads.ABSENT,
    refused_reads.FILTERS,
    refused_reads.WATCHES,
    refused_reads.RESULTS,
    refused_files.DATASETS,
]
OTHERWISE = {
    "no job": "an empty body is a job without a spec",
    "request above the limit": "the gateway refuses the body, in words of its own",
}
"""Rows that HTTP answers otherwise, and why."""

UNSAYABLE = 6
"""Rows that HTTP cannot ask: names that make another path, or none; numbers that JSON has not."""

ROWS = {case: row for table in TABLES for case, row in table.items() if case not in OTHERWISE}

HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(world: World) -> AsyncIterator[HttpStub]:
    async with before(world.mesh.address) as web:
        yield HttpStub(web)


@pytest.fixture(scope="module")
def unsaid() -> list[str]:
    return []


@pytest.mark.parametrize("case", ROWS)
async def test_refused(world: World, stub: HttpStub, case: str, unsaid: list[str]) -> None:
    row = ROWS[case]
    mesh = copy.copy(world.mesh)
    mesh.jobs = mesh.progress = mesh.results = mesh.runners = mesh.datasets = stub
    mesh.upload = world.mesh.upload
    try:
        with pytest.raises(MeshError) as caught:
            await row.ask(replace(world, mesh=mesh))
    except Unsayable:
        unsaid.append(case)
        return
    error = caught.value
    assert (error.code, error.reason) == (row.code, row.reason), error.message
    assert row.what in error.message
    assert row.instead in error.message
    if row.field:
        assert row.field in [violation.field for violation in error.violations]
    too_large = error.reason == Reason.MESSAGE_TOO_LARGE
    assert stub.statuses[-1] == (413 if too_large else HTTP[error.code])


async def test_few_rows_cannot_be_asked(unsaid: list[str]) -> None:
    print(f"{len(unsaid)} of {len(ROWS)} rows cannot be asked by HTTP: {', '.join(unsaid)}")
    assert len(unsaid) <= UNSAYABLE
