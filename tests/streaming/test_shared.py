"""`SharedStream` by itself: who gets which events, and what it reports at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher._upstream import Deadline
from llm_dispatcher.events import Event, StreamCompleted, StreamStarted, TextDelta, Usage, UsageReport
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.streaming._shared import LEAD, SharedStream, as_cached
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing._simulation.simulation import Simulation

PAID = Usage(input_tokens=7, output_tokens=3, cost=0.25, source="reported")


def events_of(words: int) -> list[Event]:
    deltas = [TextDelta(f"{number} ", number) for number in range(words)]
    whole = "".join(delta.text for delta in deltas)
    end = StreamCompleted(whole, PAID, "stop", "stop")
    return [StreamStarted(Target("openai", "m"), 1, cached=False), *deltas, UsageReport(PAID), end]


class Ends:
    """Records the calls of `on_end`, and what a caller would see at that moment."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Event], bool]] = []

    def __call__(self, events: list[Event], whole: bool) -> None:
        self.calls.append((list(events), whole))


async def upstream(events: list[Event]) -> AsyncGenerator[Event, None]:
    for event in events:
        await asyncio.sleep(0)
        yield event


@given(st.integers(0, 3 * LEAD), st.integers(1, 4))
async def test_every_reader_gets_all_events_and_the_end_is_reported_once(words: int, readers: int) -> None:
    sent, ends = events_of(words), Ends()
    stream = SharedStream(lambda: upstream(sent), ends, Deadline())

    async def read(first: bool) -> list[Event]:
        return [event async for event in stream.read(Deadline(), first=first)]

    first, *others = await asyncio.gather(*(read(number == 0) for number in range(readers)))
    assert first == sent
    assert others == [[as_cached(event) for event in sent]] * (readers - 1)
    assert ends.calls == [(sent, True)]
    assert not stream.is_joinable


async def test_the_end_is_reported_before_a_reader_sees_it() -> None:
    """So the answer is recorded before another call can open a second stream."""
    sent, ends = events_of(2), Ends()
    stream = SharedStream(lambda: upstream(sent), ends, Deadline())
    async for event in stream.read(Deadline(), first=True):
        if isinstance(event, StreamCompleted):
            while stream.is_joinable:
                assert not ends.calls
                await asyncio.sleep(0)
            assert ends.calls == [(sent, True)]


async def test_cancelling_the_last_reader_closes_upstream_and_reports_an_incomplete_stream() -> None:
    ends, closed = Ends(), asyncio.Event()

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            yield events_of(0)[0]
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = SharedStream(endless, ends, Deadline())
    read = asyncio.Event()

    async def reader() -> None:
        async with aclosing(stream.read(Deadline(), first=True)) as events:
            async for _ in events:
                read.set()

    task = asyncio.create_task(reader())
    await read.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() and closed.is_set()
    assert len(ends.calls) == 1
    assert not stream.is_joinable


def test_a_reader_that_does_not_pay_sees_cached_and_no_cost() -> None:
    started, delta, report, completed = map(as_cached, events_of(1))
    assert isinstance(started, StreamStarted) and started.cached
    assert delta == events_of(1)[1]
    assert isinstance(report, UsageReport) and isinstance(completed, StreamCompleted)
    assert [usage.cost for usage in (report.usage, completed.usage)] == [0.0, 0.0]
    assert report.usage.total_tokens == PAID.total_tokens


@pytest.mark.parametrize("seed", range(10))
def test_a_reader_that_is_cancelled_at_once_reports_the_end(seed: int) -> None:
    """The order of the seed decides how far the pump is by then. If it has not begun, none of its code runs."""
    ends = Ends()

    async def main() -> None:
        stream = SharedStream(lambda: upstream(events_of(2)), ends, Deadline())
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with aclosing(stream.read(Deadline(), first=True)) as events:
                async for _ in events:
                    pass
        task.uncancel()
        assert not stream.is_joinable

    with Simulation(seed) as simulation:
        simulation.run(main)
    assert len(ends.calls) == 1


async def test_only_the_first_reader_pays_for_a_broken_stream() -> None:
    async def broken() -> AsyncGenerator[Event, None]:
        yield events_of(1)[0]
        await asyncio.sleep(0)
        raise StreamingError("it broke", partial="0 ", usage=PAID)

    stream = SharedStream(broken, Ends(), Deadline())

    async def read(first: bool) -> Usage:
        with pytest.raises(StreamingError) as broke:
            _ = [event async for event in stream.read(Deadline(), first=first)]
        return broke.value.usage

    assert tuple(await asyncio.gather(read(True), read(False))) == (PAID, replace(PAID, cost=0.0))
