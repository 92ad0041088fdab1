"""Observers: an application's own code that watches all streams of a switch, and changes none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from llm_dispatcher import LLMStream, LLMSwitch, StreamingCache, StreamingCallbacks, TaskRequest
from llm_dispatcher._serving import stages
from llm_dispatcher._serving.call import Call, Onward
from llm_dispatcher.events import (
    Event,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    TextDelta,
    ToolCall,
    check_order,
    from_json,
    to_json,
)
from llm_dispatcher.exceptions import InvalidRequestError, LLMDispatcherError
from llm_dispatcher.notices import BreakerChanged, BudgetAlert, Notice, TargetGivenUp
from llm_dispatcher.streaming import Account, ObservedCall, Observer, Watcher
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, SaidToolCall, SimulatedVendor
from tests.conftest import policy_over

TEXT = "One two three four five six seven."
Start = Callable[..., SimulatedVendor]


class Seen:
    """Keeps the events of one stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.chunk = self._keep

    def _keep(self, event: TextDelta, account: Account, /) -> None:
        self.events.append(event)

    def watch(self, event: Event, account: Account, /) -> None:
        self.events.append(event)


class Recorder(Observer):
    """Keeps what an observer gets."""

    def __init__(self) -> None:
        self.calls: list[ObservedCall | None] = []
        self.streams: list[Seen] = []
        self.notices: list[Notice] = []

    def begin(self, call: ObservedCall | None, account: Account) -> Watcher:
        self.calls.append(call)
        self.streams.append(Seen())
        return self.streams[-1]

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)


async def test_an_observer_sees_every_event_of_every_stream(simulated_vendor: Start) -> None:
    recorder = Recorder()
    vendor = simulated_vendor("openai-chat", Reply(TEXT))
    async with LLMSwitch(policy_over(vendor), observers=[recorder]) as switch:
        shown = [event async for event in switch.stream_request(TaskRequest("First.")).events()]
        assert await switch.stream_request(TaskRequest("Second.")) == TEXT
    first, second = recorder.streams
    assert first.events == shown
    assert "".join(event.text for event in second.events if isinstance(event, TextDelta)) == TEXT
    assert [call.request.prompt for call in recorder.calls if call is not None] == ["First.", "Second."]
    check_order(second.events)


async def test_an_observer_gets_notices(simulated_vendor: Start) -> None:
    recorder = Recorder()
    broken, whole = simulated_vendor("openai-chat", Reply(fault=HttpError(503))), simulated_vendor("openai-chat")
    policy = policy_over(broken, whole, breaker={"failures": 1})
    async with LLMSwitch(policy, observers=[recorder]) as switch:
        await switch.stream_request(TaskRequest("Hi."))
    assert [type(notice) for notice in recorder.notices] == [BreakerChanged, TargetGivenUp]


@pytest.mark.parametrize("broken", ["begin", "watcher", "chunk", "watch", "pending", "cancelled", "notice"])
async def test_an_observer_that_raises_changes_no_stream(broken: str, simulated_vendor: Start) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError(broken)

    async def fail_later() -> None:
        raise RuntimeError(broken)

    async def meet_a_cancellation() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    class Failing:
        chunk = staticmethod(fail) if broken == "chunk" else None

        def watch(self, event: Event, account: Account, /) -> Awaitable[None] | None:
            if broken == "pending":
                return fail_later()
            if broken == "cancelled":
                return meet_a_cancellation()
            if broken == "watch":
                fail()
            return None

    class Broken(Observer):
        def begin(self, call: ObservedCall | None, account: Account) -> Watcher:
            if broken == "begin":
                fail()
            if broken == "watcher":
                return object()  # type: ignore[return-value]
            return Failing()

        def notice(self, notice: Notice) -> None:
            if broken == "notice":
                fail()

    recorder = Recorder()
    vendors = [
        simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(2))),
        simulated_vendor("openai-chat", Continuing(TEXT)),
    ]
    async with LLMSwitch(policy_over(*vendors), observers=[Broken(), recorder]) as switch:
        assert await switch.stream_request(TaskRequest("Hi.")) == TEXT
    assert isinstance(recorder.streams[0].events[-1], StreamCompleted)
    assert recorder.notices


@pytest.mark.parametrize("request_", [TaskRequest(" "), TaskRequest("Hi.", model="unknown/m")])
async def test_an_observer_is_told_of_a_request_that_cannot_be_sent(
    request_: TaskRequest, simulated_vendor: Start
) -> None:
    recorder = Recorder()
    async with LLMSwitch(policy_over(simulated_vendor("openai-chat")), observers=[recorder]) as switch:
        with pytest.raises(InvalidRequestError):
            await switch.stream_request(request_)
    assert [type(event) for event in recorder.streams[0].events] == [StreamFailed]


def test_a_wrong_observer_is_refused_with_the_fix(simulated_vendor: Start) -> None:
    with pytest.raises(TypeError, match=r"observers is a list of observers, got Recorder; write: observers=\["):
        LLMSwitch(policy_over(simulated_vendor("openai-chat")), observers=Recorder())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"an observer is a streaming\.Observer, got list"):
        LLMSwitch(policy_over(simulated_vendor("openai-chat")), observers=[[]])  # type: ignore[list-item]


def test_a_coroutine_function_that_nobody_would_await_is_refused(simulated_vendor: Start) -> None:
    class Awaiting(Observer):
        async def notice(self, notice: Notice) -> None:  # type: ignore[override]
            pass

    async def alert(alert: BudgetAlert) -> None:
        pass

    policy = policy_over(simulated_vendor("openai-chat"))
    with pytest.raises(TypeError, match=r"Awaiting\.notice is a plain function, got a coroutine function; to await"):
        LLMSwitch(policy, observers=[Awaiting()])
    with pytest.raises(TypeError, match="on_budget_alert is a plain function, got a coroutine function"):
        LLMSwitch(policy, on_budget_alert=alert)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_budget_alert is a plain function, got str"):
        LLMSwitch(policy, on_budget_alert="alert")  # type: ignore[arg-type]


# ── sequence numbers ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{}, {"buffer_size": 3}, {"on_break": "restart"}, {"cache": True}])
async def test_events_count_from_0_without_gaps_across_a_switch(
    options: dict[str, Any], simulated_vendor: Start
) -> None:
    recorder = Recorder()
    vendors = [
        simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(3))),
        simulated_vendor("anthropic", Continuing(TEXT)),
    ]
    if options.pop("cache", False):
        options = {"cache": StreamingCache(keep_joined=True)}
    async with LLMSwitch(policy_over(*vendors), observers=[recorder]) as switch:
        for _ in range(2):  # with a cache, the second answer is a replay
            events = [event async for event in switch.stream_request(TaskRequest("Hi."), **options).events()]
            assert [event.sequence for event in events] == list(range(len(events)))
            assert [from_json(to_json(event)).sequence for event in events] == list(range(len(events)))
    for stream in recorder.streams:
        assert [event.sequence for event in stream.events] == list(range(len(stream.events)))


async def test_two_readers_of_a_shared_stream_number_its_events_apart(simulated_vendor: Start) -> None:
    call = SaidToolCall("weather", '{"city": "Paris"}')
    vendor, cache = simulated_vendor("openai-chat", Reply(TEXT, tool_calls=(call,))), StreamingCache()
    async with LLMSwitch(policy_over(vendor)) as switch:
        plain, buffered = await asyncio.gather(
            _read(switch.stream_request(TaskRequest("Hi."), cache=cache)),
            _read(switch.stream_request(TaskRequest("Hi."), cache=cache, buffer_size=3)),
        )
    assert cache.stats().shared == 1 and len(buffered) < len(plain)
    for events in (plain, buffered):
        assert any(isinstance(event, ToolCall) for event in events)
        assert [event.sequence for event in events] == list(range(len(events)))


async def _read(stream: LLMStream[str]) -> list[Event]:
    return [event async for event in stream.events()]


async def test_the_last_event_of_a_stream_that_fails_or_is_left_is_numbered_too(simulated_vendor: Start) -> None:
    recorder = Recorder()
    vendor = simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(3)))
    async with LLMSwitch(policy_over(vendor), observers=[recorder]) as switch:
        async with switch.stream_request(TaskRequest("Hi.")) as stream:
            async for _ in stream:
                break
        with pytest.raises(LLMDispatcherError):
            await switch.stream_request(TaskRequest("Hi."), on_break="raise")
    left, failed = recorder.streams
    assert isinstance(left.events[-1], StreamCancelled)
    assert isinstance(failed.events[-1], StreamFailed)
    for seen in recorder.streams:
        assert [event.sequence for event in seen.events] == list(range(len(seen.events)))


def test_two_events_that_say_the_same_are_equal_wherever_they_stood() -> None:
    first, second = TextDelta("a", 0, sequence=1), TextDelta("a", 0, sequence=2)
    assert first == second and hash(first) == hash(second)
    assert first != TextDelta("b", 0, sequence=1)
    assert first != StreamCancelled()


# ── a stage from outside ───────────────────────────────────────────────────────────────────────────────────────────


class Shouting:
    """A stage: the answer in capitals, for requests with a certain seed."""

    def wanted(self, call: Call) -> bool:
        return call.request.seed == 42

    async def open(self, call: Call, onward: Onward) -> AsyncGenerator[Event, None]:
        return self._in_capitals(await onward(call))

    async def _in_capitals(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        async for event in events:
            yield TextDelta(event.text.upper(), event.index) if isinstance(event, TextDelta) else event


async def test_a_stage_is_one_file_and_one_entry(simulated_vendor: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "STAGES", (Shouting(), *stages.STAGES))
    async with LLMSwitch(policy_over(simulated_vendor("openai-chat", Reply(TEXT)))) as switch:
        assert await switch.stream_request(TaskRequest("Hi.", seed=42)) == TEXT.upper()
        assert await switch.stream_request(TaskRequest("Hi.")) == TEXT


@pytest.mark.parametrize("leaves", [True, False], ids=["a reader that left", "a complete answer"])
async def test_every_observer_sees_the_end_also_if_a_callback_is_cancelled_in_it(
    leaves: bool, simulated_vendor: Start
) -> None:
    reached, seen = asyncio.Event(), Recorder()

    async def never_ends(metadata: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with LLMSwitch(policy_over(simulated_vendor("openai-chat", Reply(TEXT))), observers=[seen]) as switch:
        callbacks = StreamingCallbacks(on_stream_end=never_ends)
        stream = switch.stream_request(TaskRequest("Count."), callbacks=callbacks)

        async def read() -> None:
            async with stream:
                chunks = aiter(stream)  # a name, so that this task closes it
                async for _ in chunks:
                    if leaves:
                        break

        reader = asyncio.create_task(read())
        await reached.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
    check_order(seen.streams[0].events)
    assert isinstance(seen.streams[0].events[-1], StreamCancelled if leaves else StreamCompleted)
