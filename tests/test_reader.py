"""Another task ends the reading of a stream: the reading task goes on, unless somebody cancelled it too."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from llm_dispatcher.streaming._reader import Reader

Who = Literal["leave", "leave again", "cancel"]


async def reading(reader: Reader) -> str:
    with reader:
        await asyncio.get_running_loop().create_future()
    return "went on"


@pytest.mark.parametrize(
    ("order", "goes_on"),
    [
        (["leave"], True),
        (["leave", "leave again"], True),
        (["leave", "cancel"], False),
        (["cancel", "leave"], False),  # in one step of the loop, before the first of them is delivered
        (["cancel"], False),
    ],
)
async def test_only_a_reader_that_nobody_else_cancelled_goes_on(order: list[Who], goes_on: bool) -> None:
    reader = Reader()
    task = asyncio.create_task(reading(reader))
    await asyncio.sleep(0)
    for each in order:
        if each == "cancel":
            task.cancel()
        else:
            reader.leave()
    await asyncio.wait([task])
    assert task.cancelled() is not goes_on
    assert task.cancelling() == ("cancel" in order)
    assert reader.over.is_set()


async def test_cancellations_from_before_the_stream_do_not_count() -> None:
    """A stream may be read in a `finally`, after its task was cancelled."""
    reader = Reader()

    async def closing() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return await reading(reader)
        return "was not cancelled"

    task = asyncio.create_task(closing())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    reader.leave()
    assert await task == "went on"


async def test_the_task_that_reads_now_is_the_one_that_is_cancelled() -> None:
    """A stream that one task began and another reads on."""
    reader = Reader()
    with reader:
        task = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        reader.task = task
        reader.leave()
        await asyncio.wait([task])
    assert task.cancelled()
