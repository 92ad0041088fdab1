"""Single flight: calls that ask the same thing at the same time share one upstream stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch
from llm_dispatcher._config import load
from llm_dispatcher._dispatch import Job, Ledger, attempts
from llm_dispatcher._resilience import Resilience, Timeouts
from llm_dispatcher._serving.settings import CallSettings
from llm_dispatcher._upstream import Deadline
from llm_dispatcher._upstream import Upstream as TimedUpstream
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.events import Event, StreamCompleted, StreamStarted, TextDelta
from llm_dispatcher.exceptions import ProviderConnectionError, RequestTimeoutError, StreamingError, StreamTimeoutError
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, ProviderSettings
from llm_dispatcher.streaming import _shape as shapes
from llm_dispatcher.streaming._shared import LEAD
from llm_dispatcher.tasks import Target, TaskRequest, TaskType
from llm_dispatcher.testing import Reply, SimulatedVendor
from tests.cache.conftest import PROMPT, TARGET, USAGE, Upstream, answer, served, was_cached
from tests.conftest import examples, first_is_fast, policy_over
from tests.faults.leaping_loop import leap_through

WHOLE = answer("Many", " good", " reasons", ".")
TEXT = "Many good reasons to drink it, and then some more of them, at length."


def cost(events: list[Event]) -> float | None:
    last = events[-1]
    assert isinstance(last, StreamCompleted)
    return last.usage.cost


async def test_all_readers_get_the_same_events_and_one_pays() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)
    read = await asyncio.gather(*(served(cache, PROMPT, upstream) for _ in range(50)))
    assert upstream.opened == 1
    assert {"".join(getattr(event, "text", "") for event in events[:-1]) for events in read} == {"Many good reasons."}
    assert sorted(was_cached(events) for events in read) == [False] + [True] * 49
    assert sorted(cost(events) or 0.0 for events in read) == [0.0] * 49 + [0.25]
    assert cache.stats().shared == 49


@settings(max_examples=examples(40))
@given(st.data())
async def test_readers_that_leave_do_not_affect_the_others(data: st.DataObject) -> None:
    """Each of ten readers leaves after some events or stays. Upstream is closed when the last one has left."""
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
    cache, upstream, go_on = StreamingCache(), Upstream(WHOLE), asyncio.Event()

    async def slow_reader() -> list[Event]:
        events = cache.stream(TaskRequest(PROMPT), (TARGET,), upstream)
        first = await anext(events)
        await go_on.wait()
        return [first, *[event async for event in events]]

    slow_task = asyncio.create_task(slow_reader())
    await asyncio.sleep(0)
    assert len(await served(cache, PROMPT, upstream)) == len(WHOLE)
    go_on.set()
    assert len(await slow_task) == len(WHOLE)


async def test_a_stream_that_ends_at_once_is_recorded_with_eager_tasks() -> None:
    """As with `asyncio.eager_task_factory`: the stream has ended when it has been made."""

    def eager(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], **_: Any) -> asyncio.Future[None]:
        with pytest.raises(StopIteration):
            work.send(None)
        done = loop.create_future()
        done.set_result(None)
        return done

    async def upstream() -> AsyncGenerator[Event, None]:
        for event in WHOLE:
            yield event

    cache, loop = StreamingCache(), asyncio.get_running_loop()
    loop.set_task_factory(cast(Any, eager))
    try:
        events = [event async for event in cache.stream(TaskRequest(PROMPT), (TARGET,), upstream)]
    finally:
        loop.set_task_factory(None)
    assert events == WHOLE
    assert cache.stats().recorded == 1


async def test_an_error_reaches_every_reader() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE[:2], ProviderConnectionError("gone"))
    errors = await asyncio.gather(*(served(cache, PROMPT, upstream) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["gone"] * 3 and len({id(error) for error in errors}) == 3
    assert upstream.opened == 1
    assert len(await served(cache, PROMPT, Upstream(WHOLE))) == len(WHOLE)


async def test_calls_that_differ_in_apart_do_not_share_a_stream() -> None:
    cache, upstream = StreamingCache(), Upstream(WHOLE)

    async def reader(apart: str) -> list[Event]:
        return [event async for event in cache.stream(TaskRequest(PROMPT), (TARGET,), upstream, apart)]

    await asyncio.gather(reader("restart"), reader("continue"), reader("restart"))
    assert upstream.opened == 2


async def test_a_stream_that_a_body_may_answer_is_not_shared() -> None:
    """The body belongs to one call."""
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


async def test_the_connection_is_closed_when_the_last_reader_leaves() -> None:
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


async def test_an_error_after_delivery_is_the_same_for_all_readers() -> None:
    cache = StreamingCache()
    upstream = Upstream(WHOLE[:2], StreamingError("it broke", partial="Many", usage=USAGE, failures=[]))
    results = await asyncio.gather(*(served(cache, PROMPT, upstream) for _ in range(2)), return_exceptions=True)
    free = replace(USAGE, cost=0.0)  # the reader who shares the stream pays nothing for it
    assert [(getattr(each, "partial", None), getattr(each, "usage", None)) for each in results] == [
        ("Many", USAGE),
        ("Many", free),
    ]


async def test_a_stream_that_is_being_closed_cannot_be_joined() -> None:
    """The last reader has left, and upstream is slow to close. A call that comes now opens a stream of its own."""
    cache, closing, may_close = StreamingCache(), asyncio.Event(), asyncio.Event()

    async def slow_to_close() -> AsyncGenerator[Event, None]:
        try:
            yield WHOLE[0]
            await asyncio.Event().wait()
        finally:
            closing.set()
            await may_close.wait()

    only_reader = cache.stream(TaskRequest(PROMPT), (TARGET,), slow_to_close)
    await anext(only_reader)
    leaving = asyncio.create_task(only_reader.aclose())
    await closing.wait()
    upstream = Upstream(WHOLE)
    async with asyncio.timeout(30):  # a reader that joined the closing stream would wait for ever
        assert await served(cache, PROMPT, upstream) == WHOLE
    assert upstream.opened == 1
    may_close.set()
    await leaving


POLICY = load({"providers": {"ollama": {"models": ["m"]}}})
TASK = TaskType.TEXT_GENERATION


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout": 4.0},
        {"on_break": "raise"},
        {"max_retries": 0},
        {"fallback_enabled": False},
        {"optimization_strategy": "cost"},
        {"max_cost": 1.0},
        {"max_latency": 1.0},
    ],
)
def test_a_setting_that_bears_on_how_a_stream_goes_keeps_two_calls_apart(setting: dict[str, Any]) -> None:
    assert CallSettings(**setting).apart(POLICY, TASK, shapes.TEXT) != CallSettings().apart(POLICY, TASK, shapes.TEXT)


def test_readers_that_cannot_discard_do_not_share_a_stream_that_may_restart() -> None:
    restart = CallSettings(on_break="restart")
    assert (
        restart.apart(POLICY, TASK, shapes.TEXT)
        != restart.apart(POLICY, TASK, shapes.EVENTS)
        == restart.apart(POLICY, TASK, shapes.WHOLE)
    )
    assert CallSettings().apart(POLICY, TASK, shapes.TEXT) == CallSettings().apart(POLICY, TASK, shapes.METADATA)
    # A broken answer may begin again for a reader who has nothing yet.
    assert CallSettings().apart(POLICY, TASK, shapes.TEXT) != CallSettings().apart(POLICY, TASK, shapes.WHOLE)


# ── pace ───────────────────────────────────────────────────────────────────────────────────────────────────────────

LONG = answer(*(f"{number} " for number in range(500)))


@pytest.mark.found("B-13")
@settings(max_examples=examples(40))
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 150) | st.just("leaves")), max_size=15),
    st.integers(0, 2),
)
async def test_upstream_is_at_most_the_lead_ahead_of_the_fastest_reader(
    steps: list[tuple[int, int | str]], stays: int
) -> None:
    """Three readers read some events at a time. One of them never leaves."""
    cache, taken = StreamingCache(), 0

    async def upstream() -> AsyncGenerator[Event, None]:
        nonlocal taken
        for event in LONG:
            taken += 1
            yield event

    readers = [cache.stream(TaskRequest(PROMPT), (TARGET,), upstream) for _ in range(3)]
    read = [[await anext(reader)] for reader in readers]
    for number, step in steps:
        if isinstance(step, int):
            for _ in range(step):
                if (event := await anext(readers[number], None)) is not None:
                    read[number].append(event)
        elif number != stays:
            await readers[number].aclose()
        for _ in range(5):
            await asyncio.sleep(0)
        assert taken <= max(map(len, read)) + LEAD
    read[stays] += [event async for event in readers[stays]]
    assert len(read[stays]) == len(LONG) and cache.stats().entries == 1
    for reader in readers:
        await reader.aclose()


async def test_a_stream_that_waits_for_its_reader_ends_when_the_reader_leaves() -> None:
    cache, upstream = StreamingCache(), Upstream(LONG)
    reader = cache.stream(TaskRequest(PROMPT), (TARGET,), upstream)
    await anext(reader)
    for _ in range(3 * LEAD):
        await asyncio.sleep(0)
    await reader.aclose()
    assert upstream.closed_early == 1 and asyncio.all_tasks() == {asyncio.current_task()}


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = [f"word {number}, " for number in range(10)]


class Slow:
    """A vendor that sends ten words within `seconds`, after some seconds of silence."""

    def __init__(self, seconds: float, silence: float = 0.0) -> None:
        self.settings = ProviderSettings(name="openai", kind="scripted")
        self.seconds = seconds
        self.silence = silence
        self.opened = 0

    async def prepare(self) -> None: ...
    async def aclose(self) -> None: ...

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        self.opened += 1
        yield Opened()
        await asyncio.sleep(self.silence)
        for word in WORDS:
            await asyncio.sleep(self.seconds / len(WORDS))
            yield word
        yield Finished("stop", "stop")


class Call:
    """One of several equal calls: when it begins, its timeout, and its outcome."""

    def __init__(self, cache: StreamingCache, vendors: list[Slow], begins: float, timeout: float) -> None:
        self.cache, self.vendors, self.begins, self.timeout = cache, vendors, begins, timeout
        self.text = ""
        self.took = 0.0
        self.error: RequestTimeoutError | None = None

    async def read(self) -> None:
        await asyncio.sleep(self.begins)
        deadline = Deadline(self.timeout)
        dispatch = Job(
            request=TaskRequest(PROMPT),
            targets=tuple(Target("openai", str(number)) for number in range(len(self.vendors))),
            provider=lambda target: self.vendors[int(target.model)],
            style=lambda target: "anchored",
            resilience=Resilience(max_retries=0, timeouts=Timeouts(first_token=30, idle=30, total=self.timeout)),
            ledger=Ledger(),
            deadline=deadline,
        )

        async def opened() -> AsyncGenerator[Event, None]:
            return attempts(dispatch)

        upstream = TimedUpstream(opened, deadline=deadline)
        began = asyncio.get_running_loop().time()
        try:
            async for event in self.cache.stream(dispatch.request, (TARGET,), upstream):
                self.text += event.text if isinstance(event, TextDelta) else ""
        except RequestTimeoutError as error:
            self.error = error
        self.took = asyncio.get_running_loop().time() - began


def together(vendors: list[Slow], *calls: tuple[float, float]) -> list[Call]:
    async def all_calls() -> list[Call]:
        cache = StreamingCache()
        running = [Call(cache, vendors, *call) for call in calls]
        await asyncio.gather(*(call.read() for call in running))
        return running

    return leap_through(all_calls)


@pytest.mark.found("B-18")
@settings(max_examples=examples(25))
@given(
    tenths=st.integers(1, 80),
    followers=st.lists(st.tuples(st.integers(0, 39), st.sampled_from([1.0, 2.5, 4.0, 7.0])), max_size=5),
)
def test_each_reader_has_its_own_timeout(tenths: int, followers: list[tuple[int, float]]) -> None:
    """The first call has four seconds. The others begin before they are over."""
    vendor, seconds = Slow((tenths + 0.5) / 10), (tenths + 0.5) / 10
    calls = together([vendor], (0.0, 4.0), *((begins / 10, timeout) for begins, timeout in followers))
    assert vendor.opened == 1
    for call in calls:
        if call.begins + call.timeout > seconds:
            assert (call.error, call.text) == (None, "".join(WORDS))
            assert call.took == pytest.approx(max(0.0, seconds - call.begins), abs=0.01)
        else:
            assert call.took == pytest.approx(call.timeout, abs=0.01)
            assert f"not complete within {call.timeout:g} s" in str(call.error)
            assert isinstance(call.error, StreamTimeoutError) is bool(call.text)
            assert getattr(call.error, "partial", "") == call.text


@pytest.mark.found("B-18")
def test_the_last_target_may_use_the_time_of_a_follower() -> None:
    """The first target is silent for its share of the leader's time; the second one's first word comes too late for the
    leader, and in time for the follower.
    """
    leader, follower = together([Slow(1, silence=100), Slow(1, silence=2.5)], (0.0, 4.0), (3.0, 4.0))
    assert type(leader.error) is RequestTimeoutError and leader.took == pytest.approx(4, abs=0.01)
    assert (follower.error, follower.text) == (None, "".join(WORDS))


@pytest.mark.found("B-18")
def test_a_stream_whose_time_is_over_cannot_be_joined() -> None:
    vendor = Slow(6)
    leader, late = together([vendor], (0.0, 4.0), (4.0, 7.0))
    assert isinstance(leader.error, StreamTimeoutError) and leader.took == pytest.approx(4, abs=0.01)
    assert (late.error, late.text, vendor.opened) == (None, "".join(WORDS), 2)


@pytest.mark.found("B-18")
def test_a_call_that_joins_late_keeps_its_own_timeout() -> None:
    async def both() -> tuple[object, str, int]:
        async with (
            SimulatedVendor("openai-chat", Reply("a few words " * 3, pace=0.5)) as vendor,
            LLMSwitch({**policy_over(vendor), "cache": None}) as switch,
        ):
            request = TaskRequest(PROMPT)
            leader = asyncio.create_task(switch.stream_request(request, timeout=4).text())
            await asyncio.sleep(3.5)
            text = await switch.stream_request(request, timeout=4)
            (error,) = await asyncio.gather(leader, return_exceptions=True)
            return error, text, len(vendor.requests)

    error, text, requests = leap_through(both)
    assert isinstance(error, StreamTimeoutError) and "not complete within 4 s" in str(error)
    assert (text, requests) == ("a few words " * 3, 1)
