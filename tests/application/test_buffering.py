"""Buffering: larger chunks, the same text, and nothing held back at a switch, at an error or at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher import (
    ChunkMetadata,
    LLMStream,
    StreamingCallbacks,
    TaskRequest,
    get_global_switch,
    llm_stream,
    llm_stream_with_metadata,
)
from llm_dispatcher._serving.stages.buffering import buffered
from llm_dispatcher.events import Event, ReasoningDelta, StreamStarted, StreamSwitched, TextDelta
from llm_dispatcher.exceptions import StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Continuing, Cut, Reply, SaidToolCall, Stall

TEXT = "One two three four five six seven."
A = Target("a", "m")


def reading(**settings: Any) -> LLMStream[str]:
    @llm_stream(**settings)
    def story(topic: str) -> str:
        return topic

    return story("foxes")


async def test_chunks_have_the_size_that_was_asked_for(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(ours=Reply(TEXT))
    sizes: list[tuple[dict[str, Any], list[str]]] = [
        ({"buffer_size": 1}, ["One", " two", " three", " four", " five", " six", " seven."]),
        ({"buffer_size": 3}, ["One two three", " four five six", " seven."]),
        ({"buffer_size": 100}, [TEXT]),
        ({"min_chunk_size": 8}, ["One two three", " four five", " six seven."]),
        ({"min_chunk_size": 10_000}, [TEXT]),
        ({"buffer_size": 2, "min_chunk_size": 12}, ["One two three", " four five six", " seven."]),
    ]
    for settings, chunks in sizes:
        assert [chunk async for chunk in reading(**settings)] == chunks
        assert await asyncio.to_thread(list, reading(**settings)) == chunks
        stream = get_global_switch().stream_request(TaskRequest("foxes"), **settings)
        assert [chunk async for chunk in stream] == chunks


async def test_held_text_is_shown_before_a_switch(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT, fault=Cut(3)), second=Continuing(TEXT))
    stream = reading(buffer_size=100)
    events = [event async for event in stream.events()]
    texts = [event for event in events if isinstance(event, TextDelta)]
    switched = next(place for place, event in enumerate(events) if isinstance(event, StreamSwitched))
    assert [text.text for text in texts] == ["One two three", " four five six seven."]
    assert [text.index for text in texts] == [0, 1]
    assert events.index(texts[0]) < switched < events.index(texts[1])


async def test_held_text_is_shown_before_an_error(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT, fault=Cut(3)))
    stream, read = reading(buffer_size=100), list[str]()
    with pytest.raises(StreamingError) as raised:
        async for chunk in stream:
            read.append(chunk)
    assert read == ["One two three"] == [raised.value.partial]
    assert stream.partial == "One two three"


async def test_held_text_is_shown_before_a_tool_call(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply("I look it up.", tool_calls=(SaidToolCall("look"),)))
    events = [type(event).__name__ async for event in reading(buffer_size=100).events()]
    assert events.index("TextDelta") < events.index("ToolCallDelta") < events.index("ToolCall")


async def test_a_reader_that_leaves_early_has_the_delivered_text(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(only=Reply(TEXT, fault=Stall(5)))
    async with reading(buffer_size=2) as stream:
        async for _ in stream:
            break
    assert stream.partial == "One two"
    assert stream.response.finish_reason == "cancelled"
    assert await vendors["only"].requests[0].until_over() == "left"


async def test_chunks_are_counted_as_delivered(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(first=Reply(TEXT, fault=Cut(3)), second=Continuing(TEXT))
    told: list[tuple[str, ChunkMetadata]] = []
    callbacks = StreamingCallbacks(on_chunk_received=lambda chunk, metadata: told.append((chunk, metadata)))

    @llm_stream_with_metadata(buffer_size=2, callbacks=callbacks)
    def story(topic: str) -> str:
        return topic

    items = [item async for item in story("foxes")]
    assert [item["chunk"] for item in items] == ["One two", " three", " four five", " six seven.", ""]
    assert [item["chunk_index"] for item in items] == [0, 1, 2, 3, 4]
    assert [chunk for chunk, _ in told] == [item["chunk"] for item in items[:-1]]
    assert [metadata["chunk_index"] for _, metadata in told] == [0, 1, 2, 3]


PIECES = st.lists(st.one_of(st.text(min_size=1, max_size=5), st.none()), max_size=40)


@given(PIECES, st.integers(1, 6), st.integers(1, 12), st.booleans())
async def test_buffering_keeps_text_order_and_other_events(
    pieces: list[str | None], size: int, characters: int, fails: bool
) -> None:
    """`None` stands for an event that is no text."""

    async def source() -> AsyncGenerator[Event, None]:
        yield StreamStarted(A, 1, cached=False)
        for index, piece in enumerate(pieces):
            yield ReasoningDelta(str(index)) if piece is None else TextDelta(piece, index)
        if fails:
            raise KeyError

    given_events, came = [], []
    try:
        async for event in source():
            given_events.append(event)
    except KeyError:
        pass
    try:
        async for event in buffered(source(), buffer_size=size, min_chunk_size=characters):
            came.append(event)
        assert not fails
    except KeyError:
        assert fails
    assert _flat(came) == _flat(given_events)
    chunks = [event for event in came if isinstance(event, TextDelta)]
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for event, following in pairwise(came):
        if isinstance(event, TextDelta) and isinstance(following, TextDelta):
            assert len(event.text) >= characters, "only what is followed by something else may be short"


def _flat(events: list[Event]) -> list[str]:
    """The events, text by characters."""
    flat: list[str] = []
    for event in events:
        flat.extend(event.text if isinstance(event, TextDelta) else [repr(event)])
    return flat
