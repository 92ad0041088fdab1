"""The object that a call returns, and the four ways to read it."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from llm_dispatcher import LLM, ChunkMetadata, LLMStream, LLMSwitch, ProgressTracker, StreamingCallbacks, TaskRequest
from llm_dispatcher._bodies import BodyCall
from llm_dispatcher.events import Event, StreamCompleted, StreamFailed, StreamStarted, StreamSwitched, TextDelta
from llm_dispatcher.exceptions import InvalidRequestError, ProviderAuthenticationError, StreamingError
from llm_dispatcher.streaming._account import Account
from llm_dispatcher.streaming._observe import Observer, OpenedStream
from llm_dispatcher.streaming._shape import Shape
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, SaidToolCall, SimulatedVendor, Stall
from tests.conftest import policy_over

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]
TEXT = "One two three four five six."
ASK = TaskRequest("Count.")


@pytest.fixture
def fresh(simulated_vendor: Start, switch_over: Over) -> Callable[..., LLMStream[str]]:
    """A new stream each time, of the text or of another reply."""

    def make(reply: Reply = Reply(TEXT), **settings: Any) -> LLMStream[str]:
        return switch_over(simulated_vendor("openai-chat", reply)).stream_request(ASK, **settings)

    return make


async def test_a_stream_is_iterated_awaited_collected_or_watched(fresh: Callable[..., LLMStream[str]]) -> None:
    assert [chunk async for chunk in fresh()] == list(Reply(TEXT).pieces)
    assert await fresh() == TEXT
    assert await asyncio.create_task(fresh().text()) == TEXT
    response = await fresh().collect()
    assert (response.text, response.finish_reason, response.error, response.cached) == (TEXT, "stop", None, False)
    assert response.usage.total_tokens == 21
    events = [event async for event in fresh().events()]
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text == TEXT


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ["collect", "async for", "events"])
async def test_a_finished_stream_keeps_neither_its_request_nor_its_switch(how: str, simulated_vendor: Start) -> None:
    switch = over(simulated_vendor("openai-chat", Reply(TEXT)))
    stream, kept = switch.stream_request(ASK), weakref.ref(switch)
    if how == "collect":
        await stream.collect()
    else:
        async for _ in stream if how == "async for" else stream.events():
            pass
    del switch
    assert kept() is None
    assert stream.response.text == TEXT


def test_threads_can_block_on_a_stream(simulated_vendor: Start) -> None:
    switch = over(simulated_vendor("openai-chat", Reply(TEXT)))
    assert list(switch.stream_request(ASK)) == list(Reply(TEXT).pieces)
    assert switch.stream_request(ASK).result().text == TEXT
    read: list[str] = []
    threads = [threading.Thread(target=lambda: read.append("".join(switch.stream_request(ASK)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [TEXT] * 8


def over(vendor: SimulatedVendor) -> LLMSwitch:
    return LLMSwitch(policy_over(vendor))


async def test_a_thread_can_read_while_another_loop_runs(simulated_vendor: Start) -> None:
    switch = over(simulated_vendor("openai-chat", Reply(TEXT)))
    here, there = await asyncio.gather(
        switch.stream_request(ASK).text(), asyncio.to_thread(lambda: "".join(switch.stream_request(ASK)))
    )
    assert here == there == TEXT
    await switch.aclose()


async def test_blocking_inside_a_running_loop_says_what_to_write(fresh: Callable[..., LLMStream[str]]) -> None:
    with pytest.raises(RuntimeError, match="async for chunk in stream"):
        iter(fresh())
    with pytest.raises(RuntimeError, match=r"await stream\.collect"):
        fresh().result()


def test_a_blocking_reader_that_leaves_closes_the_connection(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    stream = over(vendor).stream_request(ASK)
    for chunk in stream:
        if chunk == " three":
            break
    assert vendor.requests[0].wait_until_over() == "left"
    assert stream.response.finish_reason == "cancelled"


async def test_a_stream_is_read_once(fresh: Callable[..., LLMStream[str]]) -> None:
    stream = fresh()
    await stream
    for again in (stream.text, stream.collect):
        with pytest.raises(RuntimeError, match="already read"):
            await again()
    for once_more in (stream.__aiter__, stream.events):
        with pytest.raises(RuntimeError, match="already read"):
            once_more()
    assert stream.response.text == stream.partial == TEXT


@pytest.mark.found("N-C17")
def test_a_stream_that_nobody_reads_says_how_it_is_read(simulated_vendor: Start) -> None:
    """Making one sends nothing, and is no mistake; whoever types it into a notebook sees what to do."""
    shown = repr(over(simulated_vendor("openai-chat", Reply(TEXT))).stream_request(ASK))
    assert shown == "<LLMStream, unread: iterate over it, await it or call .result(), 0 characters so far>"


@pytest.mark.found("N-A3")
def test_making_an_iterator_does_not_read_the_stream(simulated_vendor: Start) -> None:
    """Streamlit calls `iter()` to see whether it may, and iterates then."""
    stream = over(simulated_vendor("openai-chat", Reply(TEXT))).stream_request(ASK)
    looked = iter(stream)
    reading = iter(stream)
    assert next(reading) == "One"
    assert "unread" not in repr(stream)
    for again in (lambda: next(looked), lambda: iter(stream)):
        with pytest.raises(RuntimeError, match=r"already read \(by for\)"):
            again()
    assert "".join(reading) == TEXT.removeprefix("One")


@pytest.mark.found("N-A3")
async def test_making_an_asynchronous_iterator_does_not_read_the_stream(fresh: Callable[..., LLMStream[str]]) -> None:
    stream = fresh()
    looked, watched, reading = aiter(stream), stream.events(), aiter(stream)
    assert await anext(reading) == "One"
    for other in (looked, watched):
        with pytest.raises(RuntimeError, match=r"already read \(by async for\)"):
            await anext(other)
    assert "".join([chunk async for chunk in reading]) == TEXT.removeprefix("One")
    assert stream.response.error is None, "who was refused has not failed the stream"

    stream = fresh()
    aiter(stream)
    assert await stream == TEXT, "it may still be read in another way"


@pytest.mark.found("N-A3")
async def test_in_a_running_loop_a_stream_is_only_asynchronously_iterable(fresh: Callable[..., LLMStream[str]]) -> None:
    """Django tries `iter()`, and `aiter()` after a `TypeError`."""
    stream = fresh()
    with pytest.raises(TypeError, match=r"async for chunk in stream.*StreamingResponse\(stream\).*aiter\(stream\)"):
        iter(stream)
    assert [chunk async for chunk in aiter(stream)] == list(Reply(TEXT).pieces)


@pytest.mark.found("N-A3")
@pytest.mark.parametrize("module", ["quart.wrappers.response", "litestar.utils.sync"])
async def test_a_framework_may_take_the_iterator_in_its_loop_and_read_it_in_threads(
    module: str, simulated_vendor: Start, switch_over: Over
) -> None:
    """What the framework leaves open is closed when the task that handles the request ends."""
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    stream = switch_over(vendor).stream_request(ASK)
    reading: list[Any] = []

    async def request() -> list[str]:
        reading.append(eval("iter(stream)", {"__name__": module, "stream": stream}))
        return [await asyncio.to_thread(next, reading[0]) for _ in range(3)]

    assert await asyncio.create_task(request()) == ["One", " two", " three"]
    assert await over_at(vendor) == "left"
    assert await asyncio.to_thread(list, reading[0]) == []


async def test_an_iterator_from_another_thread_is_refused_in_a_running_loop(
    fresh: Callable[..., LLMStream[str]],
) -> None:
    chunks = await asyncio.to_thread(iter, fresh())
    with pytest.raises(RuntimeError, match="an event loop is running"):
        next(chunks)


async def test_closing_before_the_first_chunk_ends_every_iterator(fresh: Callable[..., LLMStream[str]]) -> None:
    stream = fresh()
    looked, reading = aiter(stream), aiter(stream)
    await stream.aclose()
    assert [chunk async for chunk in reading] == []
    with pytest.raises(RuntimeError, match=r"already read \(by aclose\(\)\)"):
        await anext(looked)


async def test_nothing_is_sent_before_the_stream_is_read(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT))
    stream = switch_over(vendor).stream_request(ASK)
    stream.events()
    await asyncio.sleep(0)
    assert vendor.requests == []
    assert stream.response.started is None


async def test_a_stream_cannot_be_copied_or_serialised(fresh: Callable[..., LLMStream[str]]) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="live connection"):
            attempt(fresh())


# ── leaving early ──────────────────────────────────────────────────────────────────────────────────────────────────


async def over_at(vendor: SimulatedVendor) -> str:
    return await asyncio.to_thread(vendor.requests[0].wait_until_over)


@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "anthropic", "google", "ollama"])
async def test_break_closes_the_connection_while_the_stream_is_held(
    wire: str, simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT, fault=Stall(3)))
    stream = switch_over(vendor).stream_request(ASK)
    async for chunk in stream:
        if chunk == " three":
            break
    assert await over_at(vendor) == "left"
    assert stream.partial == "One two three"
    assert stream.response.finish_reason == "cancelled"
    assert [attempt.outcome for attempt in stream.response.attempts] == ["cancelled"]


async def test_a_context_manager_aclose_and_a_readers_error_close_the_connection(
    simulated_vendor: Start, switch_over: Over, collect_garbage: Callable[[], object]
) -> None:
    vendor = simulated_vendor("anthropic", Reply(TEXT, fault=Stall(3)))
    switch = switch_over(vendor)
    async with switch.stream_request(ASK) as stream:
        chunks = aiter(stream)
        await anext(chunks)
    assert await over_at(vendor) == "left"

    vendor.requests.clear()
    stream = switch.stream_request(ASK)
    events = stream.events()
    await anext(events)
    await stream.aclose()
    await stream.aclose()
    assert await over_at(vendor) == "left"

    vendor.requests.clear()
    with pytest.raises(ZeroDivisionError):
        async for _ in switch.stream_request(ASK):
            raise ZeroDivisionError
    collect_garbage()
    assert await over_at(vendor) == "left"


async def test_cancelling_the_reader_closes_the_connection(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("google", Reply(TEXT, fault=Stall(3)))
    stream = switch_over(vendor).stream_request(ASK)
    reader = asyncio.create_task(stream.collect())
    while stream.partial != "One two three":
        await asyncio.sleep(0.001)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await over_at(vendor) == "left"


async def test_closing_while_another_task_reads_ends_the_reading(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    stream = switch_over(vendor).stream_request(ASK)

    async def read() -> str:
        return "".join([chunk async for chunk in stream])

    reader = asyncio.create_task(read())
    while stream.partial != "One two three":
        await asyncio.sleep(0.001)
    await stream.aclose()
    assert await reader == "One two three"
    assert stream.response.finish_reason == "cancelled"
    assert await over_at(vendor) == "left"


async def test_several_tasks_can_close_a_stream_that_another_reads(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    stream = switch_over(vendor).stream_request(ASK)
    reader = asyncio.create_task(stream.text())
    while stream.partial != "One two three":
        await asyncio.sleep(0.001)
    await asyncio.gather(stream.aclose(), stream.aclose())
    assert await reader == "One two three"


async def test_a_reader_that_survived_a_cancellation_survives_the_closing(
    simulated_vendor: Start, switch_over: Over
) -> None:
    stream = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))).stream_request(ASK)

    async def read() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await stream.text()  # (as one does who tidies up)
        return ""

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    reader.cancel()
    while stream.partial != "One two three":
        await asyncio.sleep(0.001)
    await stream.aclose()
    assert await reader == "One two three"


async def test_another_loop_can_close_a_stream_that_a_thread_reads(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    switch = over(vendor)
    whole, stepwise = switch.stream_request(ASK), switch.stream_request(ASK)
    reading = asyncio.create_task(asyncio.to_thread(whole.result))
    chunks = await asyncio.to_thread(iter, stepwise)
    assert await asyncio.to_thread(next, chunks) == "One"
    while whole.partial != "One two three":
        await asyncio.sleep(0.001)
    async with asyncio.timeout(60):
        await whole.aclose()
        await stepwise.aclose()
    assert (await reading).text == "One two three"
    assert await asyncio.to_thread(list, chunks) == []
    assert await vendor.until_unconnected() == 0


def test_a_stream_is_closed_in_the_loop_that_reads_it(simulated_vendor: Start) -> None:
    """Only the thread of a loop may cancel a task of that loop or wake it. A loop in debug mode raises an error if
    another thread does.
    """
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    closed_in: list[int] = []
    stream = over(vendor).stream_request(
        ASK, callbacks=StreamingCallbacks(on_stream_end=lambda _: closed_in.append(threading.get_ident()))
    )
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(asyncio.run(stream.text(), debug=True)))
    reader.start()
    while stream.partial != "One two three":
        time.sleep(0.001)

    async def close() -> None:
        async with asyncio.timeout(60):
            await stream.aclose()
        assert stream.response.finish_reason == "cancelled", "it is over when `aclose` returns"

    asyncio.run(close(), debug=True)
    reader.join(60)
    assert read == ["One two three"]
    assert closed_in == [reader.ident]


async def test_a_stream_that_was_closed_unread_cannot_be_read(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT))
    async with switch_over(vendor).stream_request(ASK) as stream:
        pass
    with pytest.raises(RuntimeError, match="already read"):
        await stream
    assert vendor.requests == []


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_events_end_in_failed_and_everything_else_raises(fresh: Callable[..., LLMStream[str]]) -> None:
    stream = fresh(Reply(fault=HttpError(401)))
    events = [event async for event in stream.events()]
    assert [type(event) for event in events] == [StreamFailed]
    assert isinstance(stream.response.error, ProviderAuthenticationError)
    for read in (LLMStream.collect, LLMStream.text):
        with pytest.raises(ProviderAuthenticationError):
            await read(fresh(Reply(fault=HttpError(401))))


async def test_text_before_an_error_is_kept(simulated_vendor: Start, switch_over: Over) -> None:
    stream = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(2)))).stream_request(ASK)
    with pytest.raises(StreamingError):
        await stream
    assert stream.partial == stream.response.text == "One two"
    assert isinstance(stream.response.error, StreamingError)


# ── loops ──────────────────────────────────────────────────────────────────────────────────────────────────────────

TWO_LOOPS = """
import asyncio, gc, sys
from llm_dispatcher import LLMSwitch, TaskRequest
kinds = dict(pair.split("=", 1) for pair in sys.argv[1:])
switch = LLMSwitch({"providers": {
    kind: {"kind": kind, "api_key": "test-key", "base_url": url, "models": ["m"]} for kind, url in kinds.items()}})
async def main():
    for kind in kinds:
        assert await switch.stream_request(TaskRequest("hi", providers=[kind])) == "hello"
for _ in range(2):
    asyncio.run(main())
    gc.collect()
assert "".join(switch.stream_request(TaskRequest("hi"))) == "hello"
"""


@pytest.mark.parametrize(
    "wires",
    [
        {"openai": "openai-responses", "ollama": "ollama"},
        pytest.param({"anthropic": "anthropic", "google": "google"}, marks=pytest.mark.slow),
    ],
)
def test_a_second_loop_works_and_no_connection_is_left_behind(wires: dict[str, str], simulated_vendor: Start) -> None:
    """Without a word on standard error: an unclosed session or socket would say one."""
    vendors = {kind: simulated_vendor(wire, Reply("hello")) for kind, wire in wires.items()}
    urls = [f"{kind}={vendor.base_url}" for kind, vendor in vendors.items()]
    code = TWO_LOOPS.replace(
        '"base_url": url, ', '"base_url": url, **({"api": "responses"} if kind == "openai" else {}), '
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *urls], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# ── metadata, callbacks and progress ───────────────────────────────────────────────────────────────────────────────


class Told:
    """Callbacks that write down what they were told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.callbacks = StreamingCallbacks(
            on_stream_start=lambda metadata: self.log.append(("start", metadata)),
            on_chunk_received=self.chunk,
            on_stream_end=lambda metadata: self.log.append(("end", metadata)),
            on_error=lambda error, metadata: self.log.append(("error", error)),
            on_switch=lambda switch, metadata: self.log.append(("switch", switch)),
            on_reasoning=lambda text, metadata: self.log.append(("reasoning", text)),
            on_tool_call=lambda call, metadata: self.log.append(("tool", call)),
        )

    async def chunk(self, chunk: str, metadata: ChunkMetadata) -> None:
        await asyncio.sleep(0)
        self.log.append(("chunk", metadata))

    def names(self) -> list[str]:
        return [name for name, _ in self.log if name != "chunk"]


async def test_callbacks_are_told_what_happens_across_a_switch(simulated_vendor: Start, switch_over: Over) -> None:
    told = Told()
    switch = switch_over(
        simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(3), reasoning=())),
        simulated_vendor("anthropic", Continuing(TEXT, reply=Reply(reasoning=("hm",)))),
    )
    assert await switch.stream_request(ASK, callbacks=told.callbacks) == TEXT
    assert told.names() == ["start", "switch", "reasoning", "end"]
    chunks = [metadata for name, metadata in told.log if name == "chunk"]
    assert [metadata["chunk_index"] for metadata in chunks] == list(range(len(chunks)))
    assert "".join(metadata["chunk"] for metadata in chunks) == TEXT
    assert [metadata["provider"] for metadata in chunks] == ["a"] * 3 + ["b"] * (len(chunks) - 3)
    assert [metadata["attempt"] for metadata in chunks] == [1] * 3 + [2] * (len(chunks) - 3)
    assert {metadata["finish_reason"] for metadata in chunks} == {None}
    start, end = told.log[0][1], told.log[-1][1]
    assert (start["provider"], start["model"], start["usage"]) == ("a", "m", None)
    assert (end["finish_reason"], end["total_tokens"]) == ("stop", end["usage"].total_tokens)
    assert isinstance(told.log[told.names().index("switch") + 3][1], StreamSwitched)


async def test_callbacks_hear_of_tools_errors_and_leaving(
    fresh: Callable[..., LLMStream[str]], collect_garbage: Callable[[], object]
) -> None:
    told = Told()
    await fresh(Reply(tool_calls=(SaidToolCall("f", '{"a": 1}'),)), callbacks=told.callbacks)
    assert told.names() == ["start", "tool", "end"]
    assert told.log[1][1].arguments == {"a": 1}

    told = Told()
    with pytest.raises(ProviderAuthenticationError):
        await fresh(Reply(fault=HttpError(401)), callbacks=told.callbacks)
    assert told.names() == ["error"]
    assert isinstance(told.log[0][1], ProviderAuthenticationError)

    told = Told()
    stream = fresh(Reply(TEXT), callbacks=told.callbacks)
    async for _ in stream:
        break
    collect_garbage()
    while not stream.response.finish_reason:
        await asyncio.sleep(0.001)
    assert told.names() == ["start", "end"]
    assert told.log[-1][1]["finish_reason"] == "cancelled"


async def test_a_callback_that_raises_changes_nothing(
    fresh: Callable[..., LLMStream[str]], caplog: pytest.LogCaptureFixture
) -> None:
    async def late(metadata: Any) -> None:
        raise KeyError("late")

    def at_once(chunk: str, metadata: Any) -> None:
        raise ValueError("at once")

    callbacks = StreamingCallbacks(on_chunk_received=at_once, on_stream_end=late)
    assert await fresh(callbacks=callbacks) == TEXT
    assert callbacks.errors == len(Reply(TEXT).pieces) + 1
    assert sum("raised" in record.getMessage() for record in caplog.records) == callbacks.errors


def test_a_wrong_callback_is_refused() -> None:
    with pytest.raises(TypeError, match="on_switch is a function"):
        StreamingCallbacks(on_switch="print")  # type: ignore[arg-type]


async def test_progress_grows_to_a_hundred_and_no_further(simulated_vendor: Start, switch_over: Over) -> None:
    tracker = ProgressTracker(expected_chunks=6)
    assert tracker.get_progress() == 0.0
    switch = switch_over(
        simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(3))), simulated_vendor("openai-chat", Continuing(TEXT))
    )
    seen = [tracker.get_progress() async for _ in switch.stream_request(ASK, progress_tracker=tracker)]
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] < 100
    assert tracker.get_progress() == 100.0
    assert tracker.eta == 0.0
    assert tracker.tokens == 7


async def test_an_error_leaves_progress_below_100(simulated_vendor: Start, switch_over: Over) -> None:
    tracker = ProgressTracker(expected_tokens=1)
    switch = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(6))))
    with pytest.raises(StreamingError):
        await switch.stream_request(ASK, progress_tracker=tracker)
    assert 90 < tracker.get_progress() < 100


async def test_streams_that_share_a_tracker_are_one_run(simulated_vendor: Start, switch_over: Over) -> None:
    tracker = ProgressTracker(expected_chunks=6)
    switch = switch_over(simulated_vendor("openai-chat", Reply(TEXT, pace=0.001)))
    assert (
        await asyncio.gather(*(switch.stream_request(ASK, progress_tracker=tracker).text() for _ in range(3)))
        == [TEXT] * 3
    )
    assert tracker.get_progress() == 100.0
    assert tracker.tokens == 21
    assert [chunk async for chunk in switch.stream_request(ASK, progress_tracker=tracker)]
    assert tracker.tokens == 7, "a new run has begun"


def test_a_tracker_expects_numbers() -> None:
    with pytest.raises(TypeError, match="expected_tokens is an int"):
        ProgressTracker(expected_tokens="many")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected_chunks is 1 or more"):
        ProgressTracker(expected_chunks=0)


# ── bad input ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"timeout": "soon"}, TypeError, "timeout is a number of seconds"),
        ({"timeout": 0}, ValueError, "timeout is more than 0"),
        ({"on_break": "cry"}, ValueError, "on_break is one of continue, restart, raise"),
        (
            {"callbacks": print},
            TypeError,
            r"callbacks is a StreamingCallbacks, got .*; write StreamingCallbacks\(on_stream_end=…\)",
        ),
        ({"progress_tracker": 3}, TypeError, "progress_tracker is a ProgressTracker"),
        ({"patience": 3}, TypeError, "patience"),
    ],
)
def test_a_wrong_setting_is_refused_at_the_call(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    switch = LLMSwitch({"providers": {"openai": {"api_key": "test-key", "models": ["m"]}}})
    with pytest.raises(error, match=words):
        switch.stream_request(ASK, **settings)


async def test_a_wrong_request_fails_the_stream_before_anything_is_sent(
    simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor("openai-chat")
    switch = switch_over(vendor)
    for request, words in (
        (TaskRequest(""), "the prompt is empty"),
        (TaskRequest(" \n"), "the prompt is empty"),
        (TaskRequest(), "neither a prompt nor messages"),
        (TaskRequest("x", providers=["opnai"]), "'opnai', which is not configured"),
        (TaskRequest("x", model="opnai/gpt"), "'opnai', which is not configured"),
        (TaskRequest("x", model="a/m", providers=["b"]), "which is not configured"),
    ):
        with pytest.raises(InvalidRequestError, match=words):
            await switch.stream_request(request)
    with pytest.raises(TypeError, match="a request is a TaskRequest, got str"):
        switch.stream_request("hi")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the prompt is a str, got list; write llm\(messages=\[…\]\)"):
        LLM()([{"role": "user", "content": "hi"}])  # type: ignore[arg-type]
    assert vendor.requests == []


class Opening:
    """Opens these events, as a call does."""

    observers: tuple[Observer, ...] = ()

    def __init__(self, events: Callable[[], AsyncGenerator[Event, None]]) -> None:
        self.account = Account()
        self._events = events

    async def begin(self, shape: Shape) -> OpenedStream:
        async def open_events() -> AsyncGenerator[Event, None]:
            return self._events()

        return OpenedStream(BodyCall(TaskRequest("Hi."), lambda notice: None), (), open_events)


@pytest.mark.parametrize("dropped", [True, False])
@pytest.mark.parametrize("how", ["chunks", "events"])
async def test_a_source_that_fails_to_close_delays_no_reader(how: str, dropped: bool) -> None:
    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield StreamStarted(Target("a", "m"), 1, cached=False)
            yield TextDelta("one", 0, None)
            yield TextDelta("two", 1, None)
        finally:
            raise OSError("it would not close")

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context.get("exception")))
    stream = LLMStream[str](Opening(events))
    reading: Any = stream.events() if how == "events" else aiter(stream)
    async for item in reading:
        if item == "one" or isinstance(item, TextDelta):
            break
    async with asyncio.timeout(30):  # (it hung)
        if dropped:
            del reading
            await stream.aclose()
            assert [type(error) for error in told] == [OSError]
        else:
            with pytest.raises(OSError, match="would not close"):
                await stream.aclose()
        await stream.aclose()
    assert isinstance(stream.response.error, OSError)
