"""What the shell offers after Tab: names that the mesh knows. A mesh that is away offers nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol

from visionmesh.errors import MeshError

if TYPE_CHECKING:
    from visionmesh.client import AsyncClient

_PATIENCE = 1.0  # seconds that somebody who pressed Tab waits
_OFFERED = 50


class Named(Protocol):
    """Anything with a resource name."""

    name: str


def jobs(incomplete: str) -> list[str]:
    """Ids of the newest jobs."""
    return _names(lambda client: client.list_jobs(page_size=_OFFERED), incomplete)


def runners(incomplete: str) -> list[str]:
    """Ids of the runners."""
    return _names(lambda client: client.list_runners(), incomplete)


def datasets(incomplete: str) -> list[str]:
    """Ids of the datasets."""
    return _names(lambda client: client.list_datasets(), incomplete)


def _names(listing: "Callable[[AsyncClient], AsyncIterator[Named]]", incomplete: str) -> list[str]:
    """Names that begin as `incomplete` does: whole ones where it holds a slash, else ids."""
    from visionmesh.client import AsyncClient

    async def collect() -> list[str]:
        found: list[str] = []
        async with AsyncClient(timeout=_PATIENCE) as client:
            async for item in listing(client):
                name = item.name if "/" in incomplete else item.name.partition("/")[2]
                if name.startswith(incomplete):
                    found.append(name)
                if len(found) == _OFFERED:
                    break
        return found

    try:
        return asyncio.run(collect())
    except MeshError:
        return []
