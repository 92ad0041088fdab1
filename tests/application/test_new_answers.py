"""An awaited answer that cannot be continued begins again: what callbacks, progress, buffers and other readers get."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest

from llm_dispatcher import LLMStream, LLMSwitch, ProgressTracker, StreamingCallbacks, TaskRequest
from llm_dispatcher._cli.describe import describe, ledger_rows
from llm_dispatcher._serving.stages.buffering import buffered
from llm_dispatcher.cache import StreamingCache
from llm_dispatcher.events import (
    Event,
    Failure,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCallDelta,
    ToolCallDropped,
)
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Cut, Reply

HALF, WHOLE = '{"lamps": 24, "keep', '{"lamps": 12, "keepers": ["Ada", "Ben"]}'
A, B = Target("a", "m"), Target("b", "m")
SCHEMA = TaskRequest("Count.", response_format={"type": "json_object"})


@pytest.fixture
def switch(simulated_switch: SimulatedSwitch) -> LLMSwitch:
    """A target that breaks in the middle of an object, and one that gives a whole one."""
    simulated_switch(first=Reply(HALF, fault=Cut(2)), second=Reply(WHOLE))
    from llm_dispatcher import get_global_switch

    return get_global_switch()


def asked(switch: LLMSwitch, **settings: Any) -> LLMStream[str]:
    return switch.stream_request(SCHEMA, **settings)


@pytest.mark.parametrize("how", ["await", "collect", "result"])
async def test_every_reader_of_the_whole_gets_one_answer(how: str, switch: LLMSwitch) -> None:
    stream = asked(switch)
    if how == "await":
        assert await stream == WHOLE
    elif how == "collect":
        assert (await stream.collect()).text == WHOLE
    else:
        assert (await asyncio.to_thread(stream.result)).text == WHOLE
    response = stream.response
    assert response.text == stream.partial == WHOLE
    assert [(row.target.provider, row.rung, row.proof) for row in response.attempts] == [
        ("first", None, None), ("second", "restarted", "a new answer"),
    ]  # fmt: skip


async def test_a_reader_of_chunks_keeps_its_error(switch: LLMSwitch) -> None:
    readers = "await, collect(), result(), parsed(), partials() and items()"
    reason = re.escape(f"the answer has to follow a schema ({readers} begin the answer again instead): ")
    with pytest.raises(StreamingError, match=reason):
        async for _ in asked(switch):
            pass


async def test_a_reader_of_events_keeps_its_error(switch: LLMSwitch) -> None:
    events = [event async for event in asked(switch).events()]
    assert not any(isinstance(event, StreamReset) for event in events)
    assert "follow a schema" in getattr(events[-1], "failure", Failure("", "")).message


async def test_callbacks_hear_that_the_chunks_no_longer_count(switch: LLMSwitch) -> None:
    chunks: list[str] = []
    switched: list[StreamSwitched] = []

    def reset(metadata: Any) -> None:
        assert metadata["provider"] == "first"
        chunks.clear()

    callbacks = StreamingCallbacks(
        on_chunk_received=lambda chunk, metadata: chunks.append(chunk),
        on_switch=lambda event, metadata: switched.append(event),
        on_reset=reset,
    )
    assert await asked(switch, callbacks=callbacks) == WHOLE
    assert "".join(chunks) == WHOLE
    assert [event.rung for event in switched] == ["restarted"]
    assert callbacks.errors == 0


async def test_progress_does_not_fall(switch: LLMSwitch) -> None:
    tracker = ProgressTracker(expected_tokens=10)
    seen: list[float] = []
    callbacks = StreamingCallbacks(on_chunk_received=lambda chunk, metadata: seen.append(tracker.get_progress()))
    await asked(switch, callbacks=callbacks, progress_tracker=tracker)
    assert seen == sorted(seen)
    assert tracker.get_progress() == 100.0
    assert tracker.tokens == -(-len(WHOLE) // 4), "the tokens of the answer that counts"


@pytest.mark.parametrize("settings", [{"buffer_size": 3}, {"min_chunk_size": 10_000}])
async def test_a_buffer_holds_nothing_of_the_first_answer(settings: Any, switch: LLMSwitch) -> None:
    assert await asked(switch, **settings) == WHOLE


async def test_a_buffer_passes_on_each_event_in_its_place() -> None:
    failure = Failure("ProviderConnectionError", "cut")
    events: list[Event] = [
        StreamStarted(A, 1, cached=False),
        TextDelta("one", 0),
        ToolCallDelta("1", "f", "{"),
        TextDelta(" two", 1),
        StreamInterrupted(failure, 7),
        ToolCallDropped("1", "f"),
        StreamSwitched(A, B, failure.kind, "plain", "", "restarted"),
        StreamReset(),
        StreamStarted(B, 2, cached=False, rung="restarted"),
        TextDelta("three", 2),
    ]

    async def source() -> Any:
        for event in events:
            yield event

    assert [event async for event in buffered(source(), min_chunk_size=100)] == events


async def test_calls_that_await_share_the_new_answer_and_readers_of_chunks_have_their_own(switch: LLMSwitch) -> None:
    cache = StreamingCache()

    async def chunks() -> str:
        read = ""
        try:
            async for chunk in asked(switch, cache=cache):
                read += chunk
        except StreamingError:
            return read + "…"
        return read

    one, two, three = await asyncio.gather(asked(switch, cache=cache), asked(switch, cache=cache), chunks())
    assert (one, two) == (WHOLE, WHOLE)
    assert three.endswith("…") and HALF.startswith(three[:-1])
    assert cache.stats().shared == 1
    assert cache.stats().unrecorded == {"joined": 1, "broken": 1}


# ── in words ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_rung_has_its_words() -> None:
    said: Sequence[tuple[Event, str]] = [
        (StreamStarted(A, 1, cached=False), "a/m answers, attempt 1"),
        (StreamStarted(A, 2, cached=False, rung="reattached"), "a/m is read on where it broke, attempt 2"),
        (StreamStarted(A, 2, cached=False, rung="exact"), "a/m goes on from the delivered tokens, attempt 2"),
        (StreamStarted(A, 2, cached=False, rung="prefill"), "a/m goes on with the open turn, attempt 2"),
        (StreamStarted(A, 2, cached=False, rung="anchored"), "a/m goes on from the last words, attempt 2"),
        (StreamStarted(A, 2, cached=False, rung="restarted"), "a/m begins the answer again, attempt 2"),
        (
            StreamSwitched(A, B, "cut", "anchor", "four", "anchored"),
            "b/m continues for a/m (anchored, seam: anchor, 4 repeated characters removed)",
        ),
        (StreamSwitched(A, B, "cut", "plain", "", "restarted"), "b/m answers anew for a/m"),
        (StreamReset(), "the answer begins again: the text so far no longer counts"),
        (ToolCallDropped("1", "look_up"), "the call of look_up was broken off and is dropped"),
    ]
    for event, words in said:
        assert describe(event) == words


async def test_the_table_of_attempts_has_their_rungs(switch: LLMSwitch) -> None:
    response = await asked(switch).collect()
    heading, *rows = ledger_rows(response.attempts)
    assert [row[heading.index("rung")] for row in rows] == ["", "restarted"]
    assert {len(row) for row in rows} == {len(heading)}
