"""A task's own cancellation is told from somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from llm_dispatcher._cancellation import cancellations, forgiven, was_cancelled
from llm_dispatcher._routing.token_bucket import Semaphore


async def run_and_cancel(wait: Callable[[asyncio.Future[None]], Awaitable[str]], times: int) -> asyncio.Task[str]:
    """A task that waits, and is cancelled so many times at once."""
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def body() -> str:
        return await wait(waiting)

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
    await asyncio.wait([task])
    return task


async def test_our_own_cancellation_is_taken_back() -> None:
    async def wait(waiting: asyncio.Future[None]) -> str:
        before = cancellations()
        try:
            await waiting
        except asyncio.CancelledError:
            assert cancellations() == before + 1
            assert forgiven(before)
        assert cancellations() == before
        await asyncio.sleep(0)
        return "went on"

    assert (await run_and_cancel(wait, 1)).result() == "went on"


async def test_a_foreign_cancellation_wins() -> None:
    async def wait(waiting: asyncio.Future[None]) -> str:
        before = cancellations()
        try:
            await waiting
        except asyncio.CancelledError:
            if not forgiven(before):
                raise
        return "went on"

    task = await run_and_cancel(wait, 2)
    assert task.cancelled()
    assert task.cancelling() == 1


async def test_an_earlier_cancellation_is_left_to_its_own_waiter() -> None:
    """A task may be cancelled already, as in a `finally`: only what comes after the note counts."""

    async def wait(waiting: asyncio.Future[None]) -> str:
        try:
            await waiting
        except asyncio.CancelledError:
            before = cancellations()
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                assert before == 1
                assert forgiven(before)
            return "closed well"
        return "was not cancelled"

    task = await run_and_cancel(wait, 1)
    assert task.result() == "closed well"
    assert task.cancelling() == 1


@pytest.mark.parametrize("whose", ["task", "future"])
async def test_a_cancelled_wait_is_told_from_a_cancelled_task(whose: str) -> None:
    seen: list[bool] = []

    async def wait() -> None:
        before = cancellations()
        try:
            await waiting
        except asyncio.CancelledError:
            seen.append(was_cancelled(before))

    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    (task if whose == "task" else waiting).cancel()
    await task
    assert seen == [whose == "task"]


async def test_a_task_that_has_just_cancelled_itself_is_cancelled() -> None:
    """Also if its next wait is one that something else may cancel: a callback, or a place in a line."""
    semaphore = Semaphore(1)
    assert await semaphore.acquire(0.0)

    async def body() -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await semaphore.acquire(60.0)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(body())


def test_outside_of_a_task_an_error_goes_on() -> None:
    loop = asyncio.new_event_loop()
    results: list[object] = []
    loop.call_soon(lambda: results.extend([cancellations(), was_cancelled(0), forgiven(0)]))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert results == [0, True, True]
