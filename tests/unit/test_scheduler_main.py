"""A scheduler of which a part has ended does not go on as if nothing had happened."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.__main__ import _until


async def never() -> None:
    await asyncio.Event().wait()


async def broken() -> None:
    raise OSError("no descriptors left")


@pytest.fixture
async def other() -> Any:
    task = asyncio.create_task(never())
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_ends_with_what_its_part_has_ended_with(other: "asyncio.Task[None]") -> None:
    part = asyncio.create_task(broken())
    with pytest.raises(OSError, match="no descriptors left"):
        await _until(asyncio.Event(), SimpleNamespace(background=(other, part)))  # type: ignore[arg-type]


async def test_it_ends_when_told_to(other: "asyncio.Task[None]") -> None:
    stop = asyncio.Event()
    stop.set()
    await _until(stop, SimpleNamespace(background=(other,)))  # type: ignore[arg-type]
    assert not other.done()
