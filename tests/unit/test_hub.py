"""Waiting for a topic."""

import asyncio

import pytest

from scheduler.hub import Hub, Subscription


async def test_who_is_woken_and_cancelled_at_once_ends() -> None:
    # What the scheduler does when it stops; asyncio.wait_for of Python 3.11 swallows that cancellation.
    hub = Hub()

    async def wait_again_and_again(subscription: Subscription) -> None:
        while True:
            await subscription.wait(60)

    for steps in range(4):
        with hub.subscribe("topic") as subscription:
            waiting = asyncio.create_task(wait_again_and_again(subscription))
            await asyncio.sleep(0.01)
            hub.wake("topic")
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            done, _ = await asyncio.wait([waiting], timeout=5)
            assert done, f"{steps} steps after it was woken"


async def test_a_wake_between_two_waits_is_remembered_once() -> None:
    hub = Hub()
    with hub.subscribe("topic") as subscription:
        hub.wake("topic")
        async with asyncio.timeout(10):
            await subscription.wait(60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await subscription.wait(60)
