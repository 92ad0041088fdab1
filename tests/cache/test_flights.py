"""One flight: who asks the same thing at the same time shares one upstream stream."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_dispatcher import LLMSwitch
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.events import Event, StreamCompleted, StreamStarted, TextDelta
from llm_dispatcher.exceptions import ProviderConnectionError, StreamingError
from llm_dispatcher.tasks import Target, TaskRequest
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.cache.conftest import PROMPT, TARGET, USAGE, Upstream, answer, served, was_cached
from tests.conftest import first_is_fast, policy_over

WHOLE = answer("Many", " good", " reasons", ".")
TEXT = "Many good reasons to drink it, and then some more of them, at length."


def cost(events: list[Event]) -> float | None:
    last = events[-1]
    assert isinstance(last, StreamCompleted)
    return last.usage.cost


async def test_everybody_reads_the_same_events_and_one_pays() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    read = await asyncio.gather(*(served(cache, PROMPT, upstream) for _ in range(50)))
    assert upstream.opened == 1
    assert {"".join(getattr(event, "text", "") for event in events[:-1]) for events in read} == {"Many good reasons."}
    assert sorted(was_cached(events) for events in read) == [False] + [True] * 49
    assert sorted(cost(events) or 0.0 for events in read) == [0.0] * 49 + [0.25]
    assert cache.stats().shared == 49


@settings(max_examples=40)
@given(st.data())
async def test_whoever_leaves_whenever_the_others_get_all(data: st.DataObject) -> None:
    """Each of ten readers leaves after so many events or stays; the upstream is closed when the last has gone."""
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    stays = [data.draw(st.integers(1, len(WHOLE) + 1), label=f"reader {number}") for number in range(10)]

    async def reader(leaves_after: int) -> list[Event]:
        seen: list[Event] = []
        async with aclosing(cache.stream(TaskRequest(PROMPT), (TARGET,), upstream)) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == leaves_after:
                    break
        return seen

    read = await asyncio.gather(*map(reader, stays))
    for seen, leaves_after in zip(read, stays, strict=True):
        assert len(seen) == min(leaves_after, len(WHOLE))
    assert upstream.opened == 1
    all_left_early = max(stays) < len(WHOLE)
    assert upstream.closed_early == all_left_early
    assert (cache.stats().entries == 0) is all_left_early
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_each_reader_has_its_own_pace() -> None:
    cache, upstream, slow = StreamingCache(), Upstream(WHOLE), asyncio.Event()

    async def dawdling() -> list[Event]:
        events = cache.stream(TaskRequest(PROMPT), (TARGET,), upstream)
        first = await anext(events)
        await slow.wait()
        return [first, *[event async for event in events]]

    dawdler = asyncio.create_task(dawdling())
    await asyncio.sleep(0)
    assert len(await served(cache, PROMPT, upstream)) == len(WHOLE)
    slow.set()
    assert len(await dawdler) == len(WHOLE)


async def test_an_error_reaches_every_reader() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE[:2], ProviderConnectionError("gone"))
    errors = await asyncio.gather(*(served(cache, PROMPT, upstream) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["gone"] * 3 and len({id(error) for error in errors}) == 3
    assert upstream.opened == 1
    assert len(await served(cache, PROMPT, Upstream(WHOLE))) == len(WHOLE)


async def test_calls_that_want_something_else_of_the_stream_do_not_share_it() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)

    async def reader(apart: str) -> list[Event]:
        return [event async for event in cache.stream(TaskRequest(PROMPT), (TARGET,), upstream, apart)]

    await asyncio.gather(reader("restart"), reader("continue"), reader("restart"))
    assert upstream.opened == 2


async def test_a_stream_that_a_body_may_answer_is_nobody_elses() -> None:
    """What stands in is this call's own body."""
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    await asyncio.gather(*(served(cache, PROMPT, upstream, (TARGET, Target("body", ""))) for _ in range(3)))
    assert upstream.opened == 3


@pytest.mark.parametrize("leader_leaves_after", first_is_fast(0.05, 0.0, 0.2))
async def test_a_thousand_callers_make_one_request(leader_leaves_after: float) -> None:
    with SimulatedVendor("openai-chat", Reply(TEXT, pace=0.02)) as vendor:
        async with LLMSwitch({**policy_over(vendor), "cache": None}) as switch:
            leader = asyncio.create_task(switch.stream_request(TaskRequest(PROMPT)).collect())
            await asyncio.sleep(0.01)
            callers = [asyncio.create_task(switch.stream_request(TaskRequest(PROMPT)).collect()) for _ in range(999)]
            await asyncio.sleep(leader_leaves_after)
            leader.cancel()
            responses = await asyncio.gather(*callers)
        assert {response.text for response in responses} == {TEXT}
        assert {response.cost for response in responses} <= {0.0, None}
        assert len(vendor.requests) == 1


async def test_when_the_last_leaves_the_vendors_connection_is_closed() -> None:
    with SimulatedVendor("openai-chat", Reply(TEXT, pace=10.0)) as vendor:
        async with LLMSwitch({**policy_over(vendor), "cache": None}) as switch:
            readers = [switch.stream_request(TaskRequest(PROMPT)).events() for _ in range(2)]
            for events in readers:
                assert isinstance(await anext(events), StreamStarted)
            (request,) = vendor.requests
            await readers[0].aclose()
            assert isinstance(await anext(readers[1]), TextDelta)
            await readers[1].aclose()
            assert await request.until_over() == "left"


async def test_an_error_after_delivery_says_the_same_to_everybody() -> None:
    cache = StreamingCache()
    upstream = Upstream(WHOLE[:2], StreamingError("it broke", partial="Many", usage=USAGE, failures=[]))
    results = await asyncio.gather(*(served(cache, PROMPT, upstream) for _ in range(2)), return_exceptions=True)
    assert [(getattr(each, "partial", None), getattr(each, "usage", None)) for each in results] == [("Many", USAGE)] * 2
