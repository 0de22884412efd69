"""A scheduler with small caps, and the things on it that the requests of the tables speak of."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from refusal_world import World, fill

from visionmesh.v1 import dataset_pb2


@pytest.fixture(scope="module")
def mesh_settings() -> dict[str, object]:
    """Caps that a test can pass without gigabytes."""
    return {
        "bookmark_seconds": 0.2,
        "max_upload_bytes": 4 * 2**20,
        "max_archive_files": 40,
        "max_archive_bytes": 16 * 2**20,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mesh: Any, dataset: dataset_pb2.Dataset) -> AsyncIterator[World]:
    """What the tables speak of."""
    async with fill(mesh, dataset.name) as filled:
        yield filled
