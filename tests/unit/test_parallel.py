"""Many things at once, but not too many."""

import asyncio

import pytest

from visionmesh.parallel import each


async def test_results_come_in_order_and_no_more_are_under_way_than_may_be() -> None:
    under_way, most = 0, 0

    async def double(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10 - number):  # the later, the sooner
            await asyncio.sleep(0)
        under_way -= 1
        return 2 * number

    assert await each(range(10), double, 3) == [2 * number for number in range(10)]
    assert most == 3


async def test_nothing_is_done_for_nothing() -> None:
    assert await each([], asyncio.sleep, 4) == []


async def test_the_first_failure_ends_the_others() -> None:
    begun: list[int] = []
    cancelled: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("the second")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(ValueError, match="the second"):
        await each(range(100), work, 3)
    assert (begun, sorted(cancelled)) == ([0, 1, 2], [0, 2])


async def test_whoever_is_cancelled_leaves_nothing_under_way() -> None:
    cancelled: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    task = asyncio.create_task(each(range(5), work, 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cancelled) == [0, 1]
