"""Closing a switch while streams are under way: each ends at once, with what it had, and nothing stays open."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, StreamingCache, Target, TaskRequest, llm_stream, use_switch
from llm_dispatcher._dispatch import OpenStreams, attempts
from llm_dispatcher._dispatch.watchdog import Watchdog
from llm_dispatcher._resilience import Resilience, Timeouts
from llm_dispatcher.events import Event, StreamCompleted, StreamFailed, Usage, UsageReport, check_order
from llm_dispatcher.exceptions import LLMDispatcherError, StreamingError
from llm_dispatcher.provider import Ask, Finished, Opened, Piece
from llm_dispatcher.testing import Cut, HttpError, Reply, SimulatedVendor, SlowHeaders, Stall, Wire
from tests.dispatch.test_loop import all_of, dispatch
from tests.faults.leaping_loop import leap_through

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

TEXT = "One two three four."
ASK = TaskRequest("Count.")


class Reader:
    """Reads in a task of its own, and tells when it has some text."""

    def __init__(self, switch: LLMSwitch, **settings: Any) -> None:
        self.stream = switch.stream_request(ASK, **settings)
        self.events: list[Event] = []
        self.has_text = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.stream.events():
            self.events.append(event)
            if self.stream.partial:
                self.has_text.set()

    async def error(self) -> Exception | None:
        await self.task
        check_order(self.events)
        assert isinstance(self.events[-1], StreamFailed)
        return self.stream.response.error


async def asked(vendor: SimulatedVendor) -> None:
    while not vendor.requests:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("wire", list(Wire))
async def test_closing_ends_a_silent_stream_with_its_delivered_text(
    wire: Wire, simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor(wire, Reply(TEXT, fault=Stall(2)))
    switch = switch_over(vendor, max_retries=3)
    reader = Reader(switch)
    await reader.has_text.wait()
    await switch.aclose()
    error = await reader.error()
    assert isinstance(error, StreamingError)
    assert error.message == "the switch was closed while this stream was under way"
    assert error.partial == reader.stream.partial == "One two"
    (attempt,) = reader.stream.response.attempts
    assert (attempt.outcome, attempt.failure, attempt.delivered) == ("cancelled", None, len("One two"))
    assert error.usage == reader.stream.response.usage and error.usage.output_tokens > 0
    assert Target("a", "m") not in switch.health(), "it was not the vendor's doing"
    assert len(vendor.requests) == 1, "nobody tried again over a new connection"


@pytest.mark.parametrize("fault", [SlowHeaders(600), Stall(0), HttpError(429, retry_after=15)])
async def test_closing_ends_a_stream_before_its_first_text_wherever_it_waits(
    fault: Any, simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=fault))
    switch = switch_over(vendor, max_retries=3, timeouts={"first_token": 600})
    reader = Reader(switch)
    await asked(vendor)
    await switch.aclose()
    error = await reader.error()
    assert isinstance(error, StreamingError) and error.partial == ""
    assert len(vendor.requests) == 1


@pytest.mark.found("H-7")
async def test_closing_between_two_attempts_keeps_what_was_delivered(
    simulated_vendor: Start, switch_over: Over
) -> None:
    limited = simulated_vendor("openai-chat", [Reply(TEXT, fault=Cut(2)), Reply(fault=HttpError(429, retry_after=15))])
    switch = switch_over(limited, max_retries=3)
    reader = Reader(switch)
    while len(reader.stream.response.attempts) < 2:
        await asyncio.sleep(0.001)
    await switch.aclose()
    error = await reader.error()
    assert type(error) is StreamingError
    assert error.partial == "One two"
    assert [type(failure).__name__ for failure in error.failures] == [
        "ProviderConnectionError",
        "ProviderRateLimitError",
    ]


@pytest.mark.found("H-7")
async def test_a_stand_in_whose_own_stream_breaks_has_failed(simulated_vendor: Start, switch_over: Over) -> None:
    """A `StreamingError` from the body is a failure of the body, and no sign that the switch was closed."""
    inner = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(2))))

    @llm_stream(body="stand-in")
    async def story(prompt: str) -> AsyncIterator[str]:
        async for chunk in inner.stream_request(ASK):
            yield chunk

    with use_switch(
        LLMSwitch({"providers": {"openai": {"api_key": "k", "models": ["m"]}}, "routing": {"default": ["body"]}})
    ):
        stream = story("Count.")
        with pytest.raises(StreamingError) as raised:
            await stream
    (attempt,) = stream.response.attempts
    assert attempt.outcome == "failed"
    assert attempt.failure is not None and attempt.failure.kind == "StreamingError"
    assert raised.value.partial == "One two"


async def test_closing_ends_a_stream_that_waits_for_a_slot(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Stall(2)))
    switch = LLMSwitch(
        {
            "providers": {"a": {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": vendor.base_url,
                                "models": ["m"], "limits": {"concurrent_streams": 1, "on_limit": "wait"}}},
            "routing": {"default": ["a/m"]},
        }
    )  # fmt: skip
    first = Reader(switch)
    await first.has_text.wait()
    second = Reader(switch)
    for _ in range(20):
        await asyncio.sleep(0)
    await switch.aclose()
    for reader in (first, second):
        assert isinstance(await reader.error(), StreamingError)
    assert len(vendor.requests) == 1


async def test_a_reader_at_work_has_its_chunk_and_then_the_end(simulated_vendor: Start, switch_over: Over) -> None:
    switch = switch_over(simulated_vendor("anthropic", Reply(TEXT, fault=Stall(1))))
    stream = switch.stream_request(ASK)
    with pytest.raises(StreamingError, match="the switch was closed"):
        async for chunk in stream:
            assert chunk == "One"
            await switch.aclose()  # by the reader itself, which must not wait for itself


async def test_every_reader_of_a_shared_stream_gets_its_end(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("google", Reply(TEXT, fault=Stall(2)))
    switch, cache = switch_over(vendor), StreamingCache()
    readers = [Reader(switch, cache=cache) for _ in range(3)]
    for reader in readers:
        await reader.has_text.wait()
    await switch.aclose()
    errors = [await reader.error() for reader in readers]
    assert [type(error) for error in errors] == [StreamingError] * 3
    assert len(vendor.requests) == 1


async def test_a_closed_switch_can_be_used_again(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", [Reply(TEXT, fault=Stall(2)), Reply(TEXT)])
    switch = switch_over(vendor)
    reader = Reader(switch)
    await reader.has_text.wait()
    await switch.aclose()
    await reader.error()
    assert await switch.stream_request(ASK) == TEXT


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_the_cause_of_an_error_is_the_sdks_error(status: int, simulated_vendor: Start, switch_over: Over) -> None:
    switch = switch_over(simulated_vendor("openai-chat", Reply(fault=HttpError(status))))
    with pytest.raises(LLMDispatcherError) as raised:
        await switch.stream_request(ASK)
    cause = raised.value.__cause__
    assert type(cause).__module__.startswith("openai") and getattr(cause, "status_code", None) == status


@pytest.mark.parametrize("clocks", [Timeouts(total=3), Timeouts(first_token=3)])
def test_a_clock_that_fires_while_a_closed_stream_ends_cancels_no_task(clocks: Timeouts) -> None:
    """The connection takes a while to close. The reader gets the error of the closing, and no cancellation."""

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2)

    async def closing() -> None:
        open_streams = OpenStreams()
        job = dispatch(answer, Resilience(max_retries=0, timeouts=clocks), open_streams=open_streams)
        reading = asyncio.create_task(all_of(job))
        await asyncio.sleep(2)
        await open_streams.end()
        with pytest.raises(StreamingError, match="the switch was closed"):
            await reading
        assert not reading.cancelled()

    leap_through(closing)


def test_closing_does_not_wait_for_a_slow_reader_of_a_complete_answer() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield "all of it"
        yield UsageReport(Usage(1, 1, source="reported"))
        yield Finished("stop", "stop")
        await asyncio.sleep(60)  # a vendor that does not end its answer

    async def closing() -> None:
        open_streams, closed = OpenStreams(), asyncio.Event()
        job = dispatch(answer, Resilience(max_retries=0), open_streams=open_streams)
        events: list[Event] = []

        async def read() -> None:
            async for event in attempts(job):
                events.append(event)
                if isinstance(event, UsageReport):
                    await closed.wait()

        reading = asyncio.create_task(read())
        await asyncio.sleep(1)
        async with asyncio.timeout(60):
            await open_streams.end()
        closed.set()
        await reading
        assert isinstance(events[-1], StreamCompleted)

    leap_through(closing)


def test_streams_can_begin_in_other_threads_while_a_switch_is_closed() -> None:
    open_streams, begun, over = OpenStreams(), threading.Event(), threading.Event()
    interval = sys.getswitchinterval()

    async def many() -> list[Watchdog]:
        return [Watchdog(Timeouts()) for _ in range(2_000)]

    async def begin() -> None:
        while not over.is_set():
            open_streams.add(Watchdog(Timeouts()))
            begun.set()

    held = asyncio.run(many())
    for clocks in held:
        open_streams.add(clocks)
    sys.setswitchinterval(1e-6)
    other = threading.Thread(target=lambda: asyncio.run(begin()))
    other.start()
    try:
        assert begun.wait(60)
        for _ in range(200):
            asyncio.run(open_streams.end())
    finally:
        over.set()
        other.join()
        sys.setswitchinterval(interval)
