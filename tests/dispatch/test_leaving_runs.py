"""A loop that ends: the run of a stream that nobody has closed is cancelled all the same, whoever keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from llm_dispatcher._dispatch import attempts
from llm_dispatcher.events import Event, TextDelta
from llm_dispatcher.notices import Notice
from llm_dispatcher.provider import Piece
from tests.dispatch.scripted import STOP, KeptAnswer, job_over


class SlowToCancel(KeptAnswer):
    """Its vendor answers a cancellation after some turns of the loop. `answered` counts those that it has heard."""

    answered = 0

    async def cancel(self) -> None:
        self.cancels += 1
        for _ in range(20):
            await asyncio.sleep(0)
        self.is_over = True
        self.answered += 1


class Program:
    """A program that stops reading after the first word and does not close the stream."""

    def __init__(self, *pieces: Piece) -> None:
        self.run = SlowToCancel(pieces or ("One ", "two ", STOP))
        self.notices: list[Notice] = []
        self.held: list[Any] = []

    def stream(self) -> AsyncGenerator[Event, None]:
        return attempts(job_over({"a": lambda ask: self.run.begin()}, notify=self.notices.append))

    async def breaks(self) -> None:
        async for event in self.stream():
            if isinstance(event, TextDelta):
                break

    async def fails(self) -> None:
        async for event in self.stream():
            if isinstance(event, TextDelta):
                raise KeyError

    async def holds(self) -> None:
        self.held.append(self.stream())
        await anext(self.held[0])

    async def leaves_a_task(self) -> None:
        reading = asyncio.Event()

        async def read() -> None:
            async for event in self.stream():
                if isinstance(event, TextDelta):
                    reading.set()
                    await asyncio.Event().wait()

        self.held.append(asyncio.create_task(read()))
        await reading.wait()


@pytest.mark.parametrize("way", ["breaks", "fails", "holds", "leaves_a_task"])
def test_a_run_is_cancelled_when_its_loop_ends(way: str) -> None:
    program = Program()
    try:
        asyncio.run(getattr(program, way)())
    except KeyError:
        assert way == "fails"
    assert program.run.answered == 1
    assert program.notices == []


def test_a_cancellation_that_the_end_of_the_loop_interrupts_is_sent_again() -> None:
    program = Program()

    async def leave() -> None:
        async with asyncio.timeout(10):
            stream = program.stream()
            await anext(stream)
            await stream.aclose()
            while not program.run.cancels:
                await asyncio.sleep(0)

    asyncio.run(leave())
    assert (program.run.cancels, program.run.answered) == (2, 1)


def test_an_answer_that_was_read_to_its_end_leaves_no_task() -> None:
    program = Program("One.", STOP)

    async def read() -> None:
        assert [event async for event in program.stream()]
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(read())
    assert program.run.cancels == 0
