"""Many things at once, but not too many."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


async def each(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Found]], at_a_time: int
) -> list[Found]:
    """What `work` makes of every item, in order; `at_a_time` are under way.

    The first that fails is raised, when the others have been cancelled.
    """
    numbered = enumerate(items)
    found: dict[int, Found] = {}

    async def worker() -> None:
        for number, item in numbered:
            found[number] = await work(item)

    tasks = [asyncio.create_task(worker()) for _ in range(at_a_time)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [found[number] for number in sorted(found)]
