"""Every way to read an `LLMStream`: in a loop, beside one, without one, in a notebook; once, and to whatever point."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from llm_dispatcher import LLM, LLMStream, LLMSwitch, llm_stream, use_switch
from llm_dispatcher._background import background_loop
from llm_dispatcher.events import StreamCompleted, TextDelta
from llm_dispatcher.exceptions import RequestTimeoutError, StreamTimeoutError
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import Continuing, Cut, Reply, SimulatedVendor, SlowHeaders, Stall
from tests.conftest import policy_over
from tests.faults.leaping_loop import leap_through

TEXT = "One two three four five six."
PIECES = list(Reply(TEXT).pieces)


@llm_stream
def story(topic: str) -> str:
    return topic


@pytest.fixture
def vendor(simulated_switch: SimulatedSwitch) -> SimulatedVendor:
    return simulated_switch(only=Reply(TEXT))["only"]


# ── the ways ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def iterated(stream: LLMStream[str]) -> str:
    return "".join([chunk async for chunk in stream])


async def awaited(stream: LLMStream[str]) -> str:
    return await stream


async def as_a_task(stream: LLMStream[str]) -> str:
    return await asyncio.create_task(stream.text())


async def collected(stream: LLMStream[str]) -> str:
    return (await stream.collect()).text


async def watched(stream: LLMStream[str]) -> str:
    events = [event async for event in stream.events()]
    assert isinstance(events[-1], StreamCompleted)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def blocking(stream: LLMStream[str]) -> str:
    return await asyncio.to_thread(lambda: "".join(stream))


async def as_a_result(stream: LLMStream[str]) -> str:
    return (await asyncio.to_thread(stream.result)).text


WAYS: list[Callable[[LLMStream[str]], Awaitable[str]]] = [
    iterated, awaited, as_a_task, collected, watched, blocking, as_a_result,
]  # fmt: skip


@pytest.mark.parametrize("read", WAYS)
async def test_every_way_to_read_gives_the_same_text_and_response(
    read: Callable[[LLMStream[str]], Awaitable[str]], simulated_switch: SimulatedSwitch
) -> None:
    simulated_switch(first=Reply(TEXT, fault=Cut(3)), second=Continuing(TEXT))
    stream = story("foxes")
    assert (stream.partial, stream.response.text, stream.response.started) == ("", "", None)
    assert await read(stream) == TEXT
    response = stream.response
    assert (stream.partial, response.text, response.finish_reason) == (TEXT, TEXT, "stop")
    assert [attempt.delivered for attempt in response.attempts] == [13, len(TEXT) - 13]
    assert response.error is None
    assert response.elapsed > 0


async def test_reading_twice_is_an_error_with_the_fix(vendor: SimulatedVendor) -> None:
    for first in WAYS:
        stream = story("foxes")
        await first(stream)
        for again in WAYS:
            with pytest.raises(
                RuntimeError, match=r"already read \(by .*\); call the function again for a new one, or"
            ):
                await again(stream)
        assert stream.response.text == TEXT
    assert len(vendor.requests) == len(WAYS)


async def test_partial_grows_with_the_reading(vendor: SimulatedVendor) -> None:
    stream = story("foxes")
    read = ""
    async for chunk in stream:
        read += chunk
        assert stream.partial == stream.response.text == read


# ── leaving, whichever way ─────────────────────────────────────────────────────────────────────────────────────────


@llm_stream
async def held(llm: LLM, topic: str) -> AsyncIterator[str]:
    async for chunk in llm(topic):
        yield chunk


@pytest.mark.parametrize("function", [story, held])
async def test_after_a_break_closing_waits_until_the_stream_is_closed(
    function: Callable[[str], LLMStream[str]], simulated_switch: SimulatedSwitch
) -> None:
    vendor = simulated_switch(only=Reply(TEXT, fault=Stall(2)))["only"]
    async with function("foxes") as stream:
        async for _ in stream:
            break
    assert stream.response.finish_reason == "cancelled"
    assert stream.response.attempts[0].outcome == "cancelled"
    again = function("foxes")
    async for _ in again:
        break
    await again.aclose()
    await again.aclose()
    assert again.response.finish_reason == "cancelled"
    assert [await request.until_over() for request in vendor.requests] == ["left", "left"]


async def test_a_body_that_stops_reading_completes_its_stream(simulated_switch: SimulatedSwitch) -> None:
    """And what it left is closed and counted before the outer stream says that it is complete."""
    vendor = simulated_switch(only=Reply(TEXT, fault=Stall(3)))["only"]

    @llm_stream
    async def first_words(llm: LLM, topic: str) -> AsyncIterator[str]:
        async for chunk in llm(topic):
            yield chunk
            if "two" in chunk:
                break

    response = await first_words("foxes").collect()
    assert (response.text, response.finish_reason) == ("One two", "stop")
    assert [attempt.outcome for attempt in response.attempts] == ["cancelled"]
    assert response.usage.source == "estimated"
    assert await vendor.requests[0].until_over() == "left"


# ── without a loop, and beside one ─────────────────────────────────────────────────────────────────────────────────


def test_several_threads_read_at_once_on_one_loop(vendor: SimulatedVendor) -> None:
    read: list[str] = []
    threads = [threading.Thread(target=lambda: read.append("".join(story("foxes")))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [TEXT] * 12
    assert [thread.name for thread in threading.enumerate()].count("llm_dispatcher") == 1
    assert background_loop() is background_loop()


async def test_blocking_in_a_running_loop_is_an_error_with_the_fix(vendor: SimulatedVendor) -> None:
    with pytest.raises(RuntimeError, match=r"an event loop is running.*write: async for chunk in stream"):
        for _ in story("foxes"):
            pass
    with pytest.raises(RuntimeError, match=r"write: await stream\.collect\(\)"):
        story("foxes").result()
    assert vendor.requests == []


class _Shell:
    """What IPython says of itself in a notebook: it has a kernel."""

    kernel = object()


@pytest.fixture
def _in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("IPython")
    module.__dict__["get_ipython"] = _Shell
    monkeypatch.setitem(sys.modules, "IPython", module)


@pytest.mark.usefixtures("_in_a_notebook")
async def test_a_notebooks_cell_may_block_although_its_thread_has_a_running_loop(vendor: SimulatedVendor) -> None:
    asyncio.get_running_loop()
    assert list(story("foxes")) == PIECES
    assert story("foxes").result().text == TEXT
    assert await story("foxes") == TEXT, "and may await as well"
    for chunk in story("foxes"):
        assert chunk == "One"
        break
    assert len(vendor.requests) == 4


@pytest.mark.found("N-A7")
@pytest.mark.parametrize(("mode", "may_block"), [("edit", True), ("run", True), ("script", True), (None, False)])
async def test_a_cell_of_marimo_may_block_and_what_only_imports_marimo_may_not(
    mode: str | None, may_block: bool, vendor: SimulatedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("marimo")
    module.__dict__["app_meta"] = lambda: types.SimpleNamespace(mode=mode)
    monkeypatch.setitem(sys.modules, "marimo", module)
    if may_block:
        assert list(story("foxes")) == PIECES
        assert story("foxes").result().text == TEXT
    else:
        with pytest.raises(RuntimeError, match="an event loop is running"):
            iter(story("foxes"))


INTERRUPTED = """
import asyncio, os, signal, sys, threading, time
from llm_dispatcher import LLMSwitch, StreamingCallbacks, TaskRequest
settings = {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": sys.argv[1], "models": ["m"]}
async def told(metadata):
    await asyncio.sleep(0.05)
callbacks = StreamingCallbacks(on_stream_end=told)  # so that the end takes a moment
stream = LLMSwitch({"providers": {"a": settings}}).stream_request(TaskRequest("hi"), callbacks=callbacks)
def interrupt():
    while stream.partial != "One two three":
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)  # (the main thread's, where the reader waits)
threading.Thread(target=interrupt).start()
try:
    for chunk in stream:
        pass
except KeyboardInterrupt:
    print(stream.response.finish_reason, stream.response.attempts[0].outcome)
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.slow
def test_ctrl_c_ends_a_blocking_reader_and_its_connection(
    simulated_vendor: Callable[..., SimulatedVendor],
) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    assert run(INTERRUPTED, vendor.base_url) == "cancelled cancelled"
    assert vendor.requests[0].wait_until_over() == "left"


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # (newer Pythons warn of any fork beside threads)
from llm_dispatcher import LLMSwitch, TaskRequest
settings = {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": sys.argv[1], "models": ["m"]}
def read():
    switch = LLMSwitch({"providers": {"a": settings}})
    return "".join(switch.stream_request(TaskRequest("hi")))
assert read() == "hello"
child = os.fork()
if child == 0:
    os._exit(0 if read() == "hello" else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), read())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.slow
def test_a_forked_process_has_a_loop_of_its_own(simulated_vendor: Callable[..., SimulatedVendor]) -> None:
    assert run(FORKED, simulated_vendor("openai-chat", Reply("hello")).base_url) == "0 hello"


LEFT_AT_THE_END = """
import sys
from llm_dispatcher import LLMSwitch, TaskRequest
settings = {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": sys.argv[1], "models": ["m"]}
chunks = iter(LLMSwitch({"providers": {"a": settings}}).stream_request(TaskRequest("hi")))
print(next(chunks))
"""


@pytest.mark.slow
def test_open_streams_are_closed_silently_at_the_end_of_the_process(
    simulated_vendor: Callable[..., SimulatedVendor],
) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(3)))
    assert run(LEFT_AT_THE_END, vendor.base_url) == "One"
    assert vendor.requests[0].wait_until_over() == "left"


ORDER_AT_THE_END = """
import atexit
from contextlib import aclosing
closed = []
atexit.register(lambda: print(*closed))  # called after the loop's own end, which is registered later
from llm_dispatcher._background import closed_at_the_end, run_in_background
async def inside(number):
    try:
        while True:
            yield number
    finally:
        closed.append(f"inner{number}")
async def read_from_outside(number):
    async with aclosing(inside(number)) as inner:
        try:
            async for item in inner:
                yield item
        finally:
            closed.append(f"outer{number}")
async def begin(reading):
    await anext(reading)
readings = [closed_at_the_end(read_from_outside(number)) for number in range(16)]
for reading in readings:
    run_in_background(begin(reading))
"""


def test_at_the_end_of_the_process_an_outer_generator_is_closed_before_the_one_inside_it() -> None:
    closed = run(ORDER_AT_THE_END).split()
    assert len(closed) == 32
    for number in range(16):
        assert closed.index(f"outer{number}") < closed.index(f"inner{number}")


def test_the_thread_of_the_loop_can_drop_a_reader(simulated_switch: SimulatedSwitch) -> None:
    """The collector runs where it likes; who waited there for the loop would wait for ever."""
    vendor = simulated_switch(only=Reply(TEXT, fault=Stall(3)))["only"]
    readers = [iter(story("foxes"))]
    assert next(readers[0]) == "One"
    background_loop().call_soon_threadsafe(readers.clear)
    assert vendor.requests[0].wait_until_over() == "left"


# ── too late ───────────────────────────────────────────────────────────────────────────────────────────────────────


@llm_stream(timeout=15)
def timed(topic: str) -> str:
    return topic


@llm_stream(timeout=15)
async def timed_whole(llm: LLM, topic: str) -> AsyncIterator[str]:
    async for chunk in llm(topic):
        yield chunk


@llm_stream(timeout=15)
async def slow_before(llm: LLM, topic: str) -> AsyncIterator[str]:
    await asyncio.Event().wait()
    yield await llm(topic)


def leaping(reply: Reply, read: Callable[[SimulatedVendor], Awaitable[None]]) -> None:
    """Read what such a vendor says, in a loop whose clock leaps."""

    async def reading() -> None:
        async with SimulatedVendor("openai-chat", reply) as vendor, LLMSwitch(policy_over(vendor)) as switch:
            with use_switch(switch):
                await read(vendor)

    leap_through(reading)


@pytest.mark.parametrize("function", [timed, timed_whole, slow_before])
def test_a_timeout_is_what_except_asyncio_timeouterror_catches(function: Callable[[str], LLMStream[str]]) -> None:
    async def read(vendor: SimulatedVendor) -> None:
        stream = function("foxes")
        caught: BaseException | None = None
        try:
            await stream
        except asyncio.TimeoutError as error:  # noqa: UP041 - the name that applications have in their code
            caught = error
        assert isinstance(caught, RequestTimeoutError)
        assert str(caught) == "not complete within 15 s (the total clock)"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert isinstance(stream.response.error, TimeoutError)

    leaping(Reply(TEXT, fault=SlowHeaders(60)), read)


@pytest.mark.parametrize("function", [timed, timed_whole])
def test_a_timeout_after_some_text_has_it(function: Callable[[str], LLMStream[str]]) -> None:
    async def read(vendor: SimulatedVendor) -> None:
        with pytest.raises(asyncio.TimeoutError) as raised:
            await function("foxes")
        assert isinstance(raised.value, StreamTimeoutError)
        assert raised.value.partial == "One two three"
        assert await vendor.requests[0].until_over() == "left"

    leaping(Reply(TEXT, fault=Stall(3)), read)


def test_a_body_that_swallows_its_cancellation_leaves_its_reader_uncancelled() -> None:
    """The timeout cancels the reader's task. If the body swallows that, the task still counts a cancellation, and the
    next `asyncio.timeout` around it would take somebody else's cancellation for its own.
    """

    @llm_stream(timeout=15)
    async def content_with_less(llm: LLM, topic: str) -> AsyncIterator[str]:
        yield "Enough."
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async def read(vendor: SimulatedVendor) -> None:
        assert await content_with_less("foxes") == "Enough."
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    leaping(Reply(TEXT), read)


def test_a_timeout_of_the_caller_stays_a_timeout_of_the_caller() -> None:
    async def read(vendor: SimulatedVendor) -> None:
        stream = story("foxes")
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(10):
                await stream
        assert not isinstance(raised.value, RequestTimeoutError)
        assert stream.response.finish_reason == "cancelled"

    leaping(Reply(TEXT, fault=Stall(3)), read)


def test_a_reader_without_a_loop_gets_the_same_errors(simulated_switch: SimulatedSwitch) -> None:
    @llm_stream(timeout=0.15)
    def hasty(topic: str) -> str:
        return topic

    simulated_switch(only=Reply(TEXT, fault=SlowHeaders(3600)))
    with pytest.raises(asyncio.TimeoutError):
        list(hasty("foxes"))
