"""Callbacks: told once of each thing, in every form, and never able to hurt a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterable
from typing import Any

import pytest

from llm_dispatcher import LLM, LLMStream, LLMSwitch, StreamingCallbacks, TaskRequest, get_global_switch, llm_stream
from llm_dispatcher.events import Event
from llm_dispatcher.exceptions import InvalidRequestError, ProviderAuthenticationError, StreamingError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, SaidToolCall, Stall

TEXT = "One two three four five six."
PIECES = list(Reply(TEXT).pieces)
CALLBACKS = (
    "on_stream_start", "on_chunk_received", "on_stream_end", "on_error", "on_switch", "on_reasoning", "on_tool_call",
)  # fmt: skip


class Told:
    """Callbacks that write down what they are told; functions, or coroutine functions."""

    def __init__(self, coroutines: bool = False) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.callbacks = StreamingCallbacks(**{name: self._callback(name, coroutines) for name in CALLBACKS})

    def _callback(self, name: str, coroutine: bool) -> Callable[..., Any]:
        def plain(*told: Any) -> None:
            self.log.append((name, *told))

        async def later(*told: Any) -> None:
            await asyncio.sleep(0)
            plain(*told)

        return later if coroutine else plain

    def names(self) -> list[str]:
        return [name for name, *_ in self.log]

    def metadata(self, name: str) -> dict[str, Any]:
        (found,) = [told for told in self.log if told[0] == name]
        metadata = found[-1]
        assert isinstance(metadata, dict)
        return metadata


def says_it(callbacks: StreamingCallbacks) -> LLMStream[str]:
    @llm_stream(callbacks=callbacks)
    def story(topic: str) -> str:
        return topic

    return story("foxes")


def holds_it(callbacks: StreamingCallbacks) -> LLMStream[str]:
    @llm_stream(callbacks=callbacks)
    async def story(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(topic):
            yield chunk

    return story("foxes")


FORMS = pytest.mark.parametrize("form", [says_it, holds_it], ids=lambda form: form.__name__)


# ── what they are told ─────────────────────────────────────────────────────────────────────────────────────────────


@FORMS
@pytest.mark.parametrize("coroutines", [False, True], ids=["functions", "coroutines"])
async def test_callbacks_are_called_once_for_each_event(
    form: Callable[..., LLMStream[str]], coroutines: bool, simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(
        first=Reply(TEXT, fault=Cut(3)),
        second=Continuing(TEXT, reply=Reply(reasoning=("hm",), tool_calls=(SaidToolCall("look"),))),
    )
    told = Told(coroutines)
    stream = form(told.callbacks)
    assert [chunk async for chunk in stream] == PIECES
    names = told.names()
    assert names[0] == "on_stream_start"
    assert names[-1] == "on_stream_end"
    assert {name: names.count(name) for name in CALLBACKS} == {
        "on_stream_start": 1,
        "on_chunk_received": len(PIECES),
        "on_stream_end": 1,
        "on_error": 0,
        "on_switch": 1,
        "on_reasoning": 1,
        "on_tool_call": 1,
    }
    start, end = told.metadata("on_stream_start"), told.metadata("on_stream_end")
    assert (start["provider"], start["model"], start["usage"]) == ("first", "simulated", None)
    assert (end["provider"], end["finish_reason"]) == ("second", "tool_calls")
    assert end["usage"] == stream.response.usage
    assert end["total_tokens"] == stream.response.usage.total_tokens
    assert "cost" in end
    chunks = [(chunk, metadata["chunk_index"]) for name, chunk, metadata in _chunks(told)]
    assert chunks == list(zip(PIECES, range(len(PIECES)), strict=True))
    assert told.callbacks.errors == 0


def _chunks(told: Told) -> list[tuple[Any, ...]]:
    return [each for each in told.log if each[0] == "on_chunk_received"]


@FORMS
async def test_a_break_calls_on_stream_end(
    form: Callable[..., LLMStream[str]], simulated_switch: SimulatedSwitch
) -> None:
    vendors = simulated_switch(only=Reply(TEXT, fault=Stall(3)))
    told = Told()
    stream = form(told.callbacks)
    async with stream:
        async for chunk in stream:
            if chunk == " three":
                break
    names = told.names()
    assert (names.count("on_stream_start"), names.count("on_stream_end"), names.count("on_error")) == (1, 1, 0)
    end = told.metadata("on_stream_end")
    assert (end["finish_reason"], end["provider"]) == ("cancelled", "only")
    assert end["usage"].source == "estimated"
    assert await vendors["only"].requests[0].until_over() == "left"


@FORMS
async def test_a_cancelled_reader_calls_on_stream_end(
    form: Callable[..., LLMStream[str]], simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(only=Reply(TEXT, fault=Stall(3)))
    told = Told(coroutines=True)
    stream = form(told.callbacks)
    reader = asyncio.create_task(stream.text())
    while len(_chunks(told)) < 3:
        await asyncio.sleep(0.001)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert told.names()[-1] == "on_stream_end"
    assert told.metadata("on_stream_end")["finish_reason"] == "cancelled"


@FORMS
@pytest.mark.parametrize(
    ("fault", "error", "chunks"), [(HttpError(401), ProviderAuthenticationError, 0), (Cut(2), StreamingError, 2)]
)
async def test_an_error_calls_on_error_once_and_not_on_stream_end(
    form: Callable[..., LLMStream[str]],
    fault: Any,
    error: type[Exception],
    chunks: int,
    simulated_switch: SimulatedSwitch,
) -> None:
    simulated_switch(only=Reply(TEXT, fault=fault))
    told = Told()
    with pytest.raises(error) as raised:
        await form(told.callbacks)
    names = told.names()
    assert (names.count("on_error"), names.count("on_stream_end"), len(_chunks(told))) == (1, 0, chunks)
    name, told_error, metadata = told.log[-1]
    assert (name, told_error) == ("on_error", raised.value)
    assert (metadata["provider"], metadata["model"]) == ("only", "simulated")


async def test_a_request_that_cannot_be_sent_calls_on_error(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    told = Told()
    with pytest.raises(InvalidRequestError):
        await get_global_switch().stream_request(TaskRequest(""), callbacks=told.callbacks)
    assert told.names() == ["on_error"]


async def test_an_unread_stream_calls_no_callback(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(only=Reply(TEXT))
    told = Told()
    await says_it(told.callbacks).aclose()
    assert (told.log, vendors["only"].requests) == ([], [])


class Recorded:
    """A cache that has this answer."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    async def stream(
        self,
        request: TaskRequest,
        targets: Iterable[Target],
        upstream: Callable[[], AsyncGenerator[Event, None]],
        apart: Hashable = (),
    ) -> AsyncGenerator[Event, None]:
        for event in self.events:
            yield event


async def test_a_cache_hit_calls_the_same_callbacks(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    live, replayed = Told(), Told()
    switch = get_global_switch()
    stream = switch.stream_request(TaskRequest("foxes"), callbacks=live.callbacks)
    events = [event async for event in stream.events()]
    await switch.stream_request(TaskRequest("foxes"), callbacks=replayed.callbacks, cache=Recorded(events))
    assert replayed.names() == live.names()
    assert [told[1:-1] for told in replayed.log] == [told[1:-1] for told in live.log]


# ── what they cannot do ────────────────────────────────────────────────────────────────────────────────────────────


class TroubleError(Exception):
    """A mistake in the application."""


async def _cancelled() -> None:
    """Wait for something that somebody else has cancelled."""
    other = asyncio.get_running_loop().create_future()
    other.cancel()
    await other


def _raises(*told: Any) -> None:
    raise TroubleError


async def _raises_later(*told: Any) -> None:
    await asyncio.sleep(0)
    raise TroubleError


async def _meets_a_cancellation(*told: Any) -> None:
    await _cancelled()


@FORMS
@pytest.mark.parametrize("trouble", [_raises, _raises_later, _meets_a_cancellation])
async def test_a_callback_that_raises_is_logged_and_counted_and_changes_nothing(
    form: Callable[..., LLMStream[str]],
    trouble: Callable[..., Any],
    simulated_switch: SimulatedSwitch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vendors = simulated_switch(first=Reply(TEXT, fault=Cut(3)), second=Continuing(TEXT))
    callbacks = StreamingCallbacks(**dict.fromkeys(CALLBACKS, trouble))
    with caplog.at_level(logging.ERROR, "llm_dispatcher"):
        assert await form(callbacks) == TEXT
    told = 1 + len(PIECES) + 1 + 1  # a start, the chunks, a switch, an end
    assert callbacks.errors == told
    assert len([record for record in caplog.records if trouble.__name__ in record.getMessage()]) == told
    assert [len(vendor.requests) for vendor in vendors.values()] == [1, 1], "no further try, and no further switch"


async def test_a_callback_that_raises_at_the_end_hides_neither_answer_nor_error(
    simulated_switch: SimulatedSwitch,
) -> None:
    simulated_switch(only=Reply(TEXT, fault=Cut(2)))
    callbacks = StreamingCallbacks(on_error=_raises, on_stream_end=_raises)
    with pytest.raises(StreamingError):
        await says_it(callbacks)
    async with says_it(callbacks) as stream:
        async for _ in stream:
            break
    assert callbacks.errors == 2


async def test_a_callback_that_hangs_holds_up_its_own_stream_only(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    hanging = asyncio.Event()

    async def hangs(chunk: str, metadata: Any) -> None:
        if metadata["chunk_index"] == 2:
            hanging.set()
            await asyncio.Event().wait()

    held = says_it(StreamingCallbacks(on_chunk_received=hangs))
    reader = asyncio.create_task(held.text())
    await hanging.wait()
    assert await asyncio.gather(*(says_it(StreamingCallbacks()).text() for _ in range(10))) == [TEXT] * 10
    assert not reader.done()
    assert held.partial == "One two three"
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert held.response.finish_reason == "cancelled"


async def test_callbacks_can_be_set_and_removed_while_the_stream_is_read(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    told: list[str] = []

    def hear(chunk: str, metadata: Any) -> None:
        told.append(chunk)
        if len(told) == 2:
            callbacks.on_chunk_received = None

    callbacks = StreamingCallbacks()
    callbacks.on_stream_start = lambda metadata: setattr(callbacks, "on_chunk_received", hear)
    assert await says_it(callbacks) == TEXT
    assert told == PIECES[:2]


async def test_a_reader_that_leaves_a_hanging_end_callback_keeps_the_answer(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT))
    hanging = asyncio.Event()

    async def hangs(metadata: Any) -> None:
        hanging.set()
        await asyncio.Event().wait()

    @llm_stream(callbacks=StreamingCallbacks(on_stream_end=hangs))
    def story(topic: str) -> str:
        return topic

    stream = story("foxes")
    reader = asyncio.create_task(stream.text())
    await hanging.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (stream.response.text, stream.response.finish_reason) == (TEXT, "stop")
    assert story.progress_tracker.get_progress() == 100.0, "who watches beside it has heard of the end"


async def test_a_callback_can_close_its_stream(simulated_switch: SimulatedSwitch) -> None:
    vendors = simulated_switch(only=Reply(TEXT, fault=Stall(4)))
    streams: list[LLMStream[str]] = []

    async def enough(chunk: str, metadata: Any) -> None:
        if chunk == " three":
            await streams[0].aclose()

    streams.append(says_it(StreamingCallbacks(on_chunk_received=enough)))
    read = [chunk async for chunk in streams[0]]
    assert read == ["One", " two"]
    assert streams[0].partial == "One two three"
    assert streams[0].response.finish_reason == "cancelled"
    assert await vendors["only"].requests[0].until_over() == "left"


async def test_two_streams_can_share_callbacks(simulated_switch: SimulatedSwitch) -> None:
    simulated_switch(only=Reply(TEXT, pace=0.001))
    told = Told(coroutines=True)
    await asyncio.gather(*(says_it(told.callbacks).text() for _ in range(5)))
    assert told.names().count("on_stream_start") == told.names().count("on_stream_end") == 5


def test_a_callback_has_to_be_callable() -> None:
    for name in CALLBACKS:
        with pytest.raises(TypeError, match=f"{name} is a function or a coroutine function, got str"):
            StreamingCallbacks(**{name: "print"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callbacks is a StreamingCallbacks, got dict"):
        LLMSwitch({"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}}).stream_request(
            TaskRequest("x"), callbacks={}  # type: ignore[arg-type]
        )  # fmt: skip
