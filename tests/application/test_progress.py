"""Progress: from 0 to 100, never falling, never whole before the end; of several streams, their sum."""

from __future__ import annotations

import asyncio
import io
import warnings
import weakref
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llm_dispatcher import LLM, LLMStream, ProgressTracker, llm_stream
from llm_dispatcher.events import (
    Event,
    Failure,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamStarted,
    TextDelta,
    Usage,
)
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.streaming._account import Account
from llm_dispatcher.streaming._observe import Watcher
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Continuing, Cut, Reply, Stall

TEXT = "One two three four five six."
STARTED: Final = StreamStarted(Target("a", "m"), 1, cached=False)


@llm_stream
def story(topic: str) -> str:
    return topic


def hear(event: Event, account: Account, watcher: Watcher) -> None:
    """What the tap does with an event."""
    if isinstance(event, TextDelta):
        account.transcript.add(event.text)
    else:
        account.see(event)
        watcher.watch(event, account)


def tracked(tracker: ProgressTracker, max_tokens: int | None = None) -> LLMStream[str]:
    @llm_stream(progress_tracker=tracker, max_tokens=max_tokens)
    def told(topic: str) -> str:
        return topic

    return told("foxes")


async def shown(stream: LLMStream[str], tracker: ProgressTracker) -> list[float]:
    return [tracker.get_progress() async for _ in stream]


# ── one stream ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("expected", "max_tokens"),
    [
        ({}, None), ({}, 3), ({}, 5000), ({"expected_tokens": 7}, None), ({"expected_tokens": 2}, 5000),
        ({"expected_chunks": 6}, None), ({"expected_chunks": 1}, None),
    ],
)  # fmt: skip
async def test_progress_grows_and_reaches_100_only_after_a_clean_finish(
    expected: dict[str, Any], max_tokens: int | None, simulated_switch: SimulatedSwitch
) -> None:
    tracker = ProgressTracker(**expected)
    simulated_switch(first=Reply(TEXT, fault=Cut(3)), second=Continuing(TEXT))
    assert tracker.get_progress() == 0.0
    seen = await shown(tracked(tracker, max_tokens), tracker)
    assert seen[0] > 0.0
    assert all(before < after for before, after in pairwise(seen))
    assert seen[-1] < 100.0
    assert (tracker.get_progress(), tracker.eta, tracker.tokens) == (100.0, 0.0, 7)
    assert isinstance(tracker.get_progress(), float)


async def test_a_switch_does_not_count_twice(simulated_switch: SimulatedSwitch) -> None:
    tracker = ProgressTracker(expected_tokens=1000)
    simulated_switch(only=Reply(TEXT))
    unbroken = await shown(tracked(tracker), tracker)
    for cut in range(1, 6):
        simulated_switch(first=Reply(TEXT, fault=Cut(cut)), second=Continuing(TEXT))
        assert await shown(tracked(tracker), tracker) == unbroken


async def test_progress_stays_below_100_after_an_error(simulated_switch: SimulatedSwitch) -> None:
    tracker = ProgressTracker(expected_chunks=6)
    simulated_switch(only=Reply(TEXT, fault=Cut(6)))
    with pytest.raises(StreamingError):
        await tracked(tracker)
    assert 90.0 < tracker.get_progress() < 100.0


async def test_progress_stays_below_100_after_an_early_break(simulated_switch: SimulatedSwitch) -> None:
    tracker = ProgressTracker(expected_chunks=6)
    simulated_switch(only=Reply(TEXT, fault=Stall(6)))
    async with tracked(tracker) as stream:
        async for chunk in stream:
            if chunk == " six.":
                break
    assert 90.0 < tracker.get_progress() < 100.0


async def test_a_tracker_that_is_never_without_a_stream_keeps_only_the_open_ones(
    simulated_switch: SimulatedSwitch,
) -> None:
    simulated_switch(only=Reply(TEXT))
    tracker, accounts = ProgressTracker(), []
    async with tracked(tracker) as one_is_always_open:
        reading = aiter(one_is_always_open)
        await anext(reading)
        for _ in range(3):
            stream = tracked(tracker)
            await stream
            accounts.append(weakref.ref(stream._account))
            del stream
        assert [account() for account in accounts] == [None] * 3
        assert tracker.tokens == 3 * 7 + 1
        assert 50.0 < tracker.get_progress() < 100.0


async def test_a_tracker_learns_the_usual_length_of_its_streams(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    tracker = ProgressTracker()
    first = await shown(tracked(tracker), tracker)
    second = await shown(tracked(tracker), tracker)
    assert first[-1] < 5.0, "400 tokens were expected"
    assert second[2] == pytest.approx(100 * 4 / 7), "seven came"


async def test_each_answer_moves_the_expected_length_by_a_quarter(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=[Reply(TEXT), Reply(f"{TEXT} {TEXT} {TEXT}"), Reply(TEXT)])
    tracker = ProgressTracker()
    for _ in range(2):
        await shown(tracked(tracker), tracker)
    longer, third = tracker.tokens, await shown(tracked(tracker), tracker)
    assert third[2] == pytest.approx(100 * 4 / (7 + (longer - 7) / 4))


async def test_a_function_has_a_tracker_of_its_own(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))

    @llm_stream
    async def held(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(topic):
            yield chunk

    for function in (story, held):
        seen = await shown(function("foxes"), function.progress_tracker)
        assert 0.0 < seen[0] < seen[-1] < 100.0 == function.progress_tracker.get_progress()


class Clock:
    """A clock that stands until it is told to go."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_pace_and_what_is_left() -> None:
    clock = Clock()
    tracker = ProgressTracker(expected_tokens=40, clock=clock)
    assert (tracker.elapsed, tracker.tokens_per_second, tracker.eta) == (0.0, 0.0, None)
    account, watcher = Account(), tracker._watch()

    def tell(event: Event) -> None:
        hear(event, account, watcher)

    tell(STARTED)
    clock.now += 2
    assert (tracker.elapsed, tracker.eta) == (2.0, None), "there is no pace yet"
    tell(TextDelta("x" * 40, 0))
    assert (tracker.tokens, tracker.tokens_per_second, tracker.get_progress()) == (10, 5.0, 25.0)
    assert tracker.eta == pytest.approx(6.0)
    clock.now += 2
    tell(StreamCompleted("x" * 40, Usage(), "stop", None))
    clock.now += 50
    assert (tracker.elapsed, tracker.eta, tracker.get_progress()) == (4.0, 0.0, 100.0)


# ── several ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_streams_on_one_tracker_are_shown_as_their_sum(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT, fault=Stall(3)))
    tracker = ProgressTracker(expected_chunks=6)
    one, two = tracked(tracker), tracked(tracker)
    a, b = aiter(one), aiter(two)
    await anext(a)
    await anext(b)
    assert tracker.get_progress() == pytest.approx(100 * 2 / 12)
    assert tracker.tokens == 2
    await anext(a)
    assert tracker.get_progress() == pytest.approx(100 * 3 / 12)
    await one.aclose()
    await two.aclose()


async def test_streams_at_the_same_time_are_one_run(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT, pace=0.001))
    tracker = ProgressTracker(expected_chunks=6)
    seen = await asyncio.gather(*(shown(tracked(tracker), tracker) for _ in range(4)))
    for each in seen:
        assert each == sorted(each)
        assert each[-1] < 100.0 or each is not seen[0]
    assert (tracker.get_progress(), tracker.tokens) == (100.0, 28)
    assert await shown(tracked(tracker), tracker)
    assert tracker.tokens == 7, "what starts when all others are over is a new run"


STEPS: Final[dict[str, Event]] = {
    "t": TextDelta("word ", 0),
    "c": StreamCompleted("", Usage(), "stop", None),
    "f": StreamFailed(Failure("StreamingError", "it broke")),
    "x": StreamCancelled(),
}


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ttttttcfx")), max_size=60), st.booleans())
def test_progress_never_falls_and_reaches_100_only_at_the_end(steps: list[tuple[int, str]], chunks: bool) -> None:
    """Up to four streams that say a word, complete, fail, or are left, in any order."""
    tracker = ProgressTracker(expected_chunks=5) if chunks else ProgressTracker(expected_tokens=9)
    streams = {number: (Account(), tracker._watch()) for number in range(4)}
    for account, watcher in streams.values():
        hear(STARTED, account, watcher)
    outcomes: dict[int, str] = {}
    before = tracker.get_progress()
    assert before == 0.0
    for number, step in steps:
        if number in outcomes:
            continue
        account, watcher = streams[number]
        if step != "t":
            outcomes[number] = step
        hear(STEPS[step], account, watcher)
        now = tracker.get_progress()
        assert before <= now <= 100.0
        assert (now == 100.0) == (len(outcomes) == 4 and set(outcomes.values()) == {"c"})
        before = now


# ── a tracker that no stream was given ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("S-D5")
async def test_a_tracker_made_where_a_stream_is_read_moves(simulated_switch: SimulatedSwitch) -> None:
    """As the page of the API uses it: the function was given another one."""
    simulated_switch(only=Reply(TEXT))

    @llm_stream(progress_tracker=ProgressTracker())
    async def given_another(topic: str) -> AsyncIterator[str]:
        yield ""

    tracker = ProgressTracker(expected_chunks=6)
    for function in (given_another, story):
        seen = await shown(function("foxes"), tracker)
        assert seen == pytest.approx([100 * chunks / 6 for chunks in range(1, 6)] + [seen[-1]])
        assert 90.0 < seen[-1] < 100.0 == tracker.get_progress()


@pytest.mark.found("S-D5")
def test_a_tracker_made_where_a_thread_reads_moves(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    tracker = ProgressTracker(expected_chunks=6)
    seen = [tracker.get_progress() for _ in LLM()("foxes")]
    assert seen == sorted(seen)
    assert 0.0 < seen[0] < seen[-1] < 100.0 == tracker.get_progress()


@pytest.mark.found("S-D5")
async def test_trackers_of_two_tasks_do_not_mix(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT, pace=0.001))
    others = ProgressTracker()

    async def read(chunks: int) -> list[int]:
        tracker = ProgressTracker()
        tokens: list[int] = []
        async with story("foxes") as stream:
            async for _ in stream:
                tokens.append(tracker.tokens)
                if len(tokens) == chunks:
                    return tokens
        return tokens

    longer, shorter = await asyncio.gather(read(6), read(2))
    assert longer == [1, 2, 4, 5, 6, 7]
    assert shorter == longer[:2]
    with pytest.warns(UserWarning, match="no stream has this ProgressTracker"):
        assert others.tokens == 0, "each task has made one of its own"


@pytest.mark.found("S-D5")
async def test_a_tracker_follows_the_tasks_that_are_started_after_it(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    tracker = ProgressTracker()
    await asyncio.gather(*(story(topic).text() for topic in ("foxes", "owls", "bees")))
    assert (tracker.tokens, tracker.get_progress()) == (21, 100.0)


@pytest.mark.found("S-D5")
async def test_streams_inside_a_stream_are_a_part_of_its_progress(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))

    @llm_stream
    async def summary(topic: str) -> str:
        return f"Sum up: {await story(topic)}"  # read while the outer stream makes its prompt

    @llm_stream
    async def held(llm: LLM, topic: str) -> AsyncIterator[str]:
        for stream in (llm(topic), story(topic)):
            async for chunk in stream:
                yield chunk

    tracker = ProgressTracker()
    assert await shown(summary("foxes"), tracker) == sorted(await shown(summary("foxes"), ProgressTracker()))
    assert (tracker.tokens, tracker.get_progress()) == (7, 100.0)
    both = ProgressTracker()
    seen = await shown(held("foxes"), both)
    assert seen == sorted(seen)
    assert seen[-1] < 100.0
    assert (both.tokens, both.get_progress()) == (14, 100.0)


@pytest.mark.found("S-D5")
async def test_a_tracker_that_is_given_to_a_stream_forgets_those_that_it_followed(
    simulated_switch: SimulatedSwitch,
) -> None:
    simulated_switch(only=Reply(TEXT))
    tracker = ProgressTracker()
    await story("foxes")
    assert tracker.get_progress() == 100.0
    stream = LLM(progress_tracker=tracker)("owls")
    assert (tracker.get_progress(), tracker.tokens, tracker.elapsed) == (0.0, 0, 0.0)
    await story("foxes")
    assert tracker.get_progress() == 0.0
    await stream
    assert (tracker.get_progress(), tracker.tokens) == (100.0, 7)


async def test_reading_a_tracker_that_has_and_follows_no_stream_warns_once(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    elsewhere = asyncio.create_task(story("foxes").text())  # it was started before the tracker was made
    mine = ProgressTracker()
    assert mine.get_progress() == 0.0, "nothing has run yet"
    await elsewhere
    with pytest.warns(
        UserWarning, match=r"no stream has this ProgressTracker.* story\(\) has run.*story\.progress_tracker"
    ):
        assert mine.get_progress() == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (mine.get_progress(), mine.tokens, mine.eta) == (0.0, 0, None)
        assert story.progress_tracker.get_progress() == 100.0


async def test_a_tracker_whose_stream_is_still_to_come_does_not_warn(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    mine = ProgressTracker()
    stream = LLM(progress_tracker=mine)("foxes")
    await story("foxes")
    assert mine.get_progress() == 0.0
    await stream
    assert mine.get_progress() == 100.0
    assert ProgressTracker().get_progress() == 0.0, "made after the others ran"


# ── the bar ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_bar_is_drawn_in_a_terminal_and_nowhere_else(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    for is_terminal in (True, False):
        drawn = io.StringIO()
        with story.progress_tracker.live(Console(file=drawn, force_terminal=is_terminal, width=100)):
            await story("foxes")
        assert ("100.0 %" in drawn.getvalue() and "7 tokens" in drawn.getvalue()) == is_terminal
        assert bool(drawn.getvalue()) == is_terminal


def test_the_expected_length_has_to_be_a_number() -> None:
    with pytest.raises(TypeError, match="expected_tokens is an int"):
        ProgressTracker(expected_tokens="many")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected_chunks is 1 or more"):
        ProgressTracker(expected_chunks=0)
