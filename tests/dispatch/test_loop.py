"""The loop with a provider of our own making: what sockets cannot time exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llm_dispatcher._dispatch import Course, Job, Ledger, NoAdmission, Pass, attempts
from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT, continuation_request
from llm_dispatcher._dispatch.retrying import Retrying
from llm_dispatcher._dispatch.watchdog import Watchdog
from llm_dispatcher._resilience import Resilience, Timeouts
from llm_dispatcher.events import (
    Event,
    ProviderEvent,
    StreamCompleted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
    UsageReport,
)
from llm_dispatcher.exceptions import (
    AllProvidersFailedError,
    InvalidRequestError,
    LLMDispatcherError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderRateLimitError,
    ProviderServiceUnavailableError,
    ProviderTimeoutError,
    StreamingError,
)
from llm_dispatcher.provider import Ask, Finished, Opened, Piece, ProviderSettings, RawEvent
from llm_dispatcher.tasks import Target, TaskRequest
from tests.faults.leaping_loop import leap_through

Answer = Callable[[Ask], AsyncGenerator[Piece, None]]
A = Target("a", "m")


class Scripted:
    """A provider that is one function."""

    def __init__(self, answer: Answer) -> None:
        self.settings = ProviderSettings(name="a", kind="scripted")
        self._answer = answer

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        return self._answer(ask)

    async def prepare(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def dispatch(answer: Answer, resilience: Resilience = Resilience(max_retries=0), **more: Any) -> Job:
    return Job(
        request=TaskRequest("hi"),
        targets=(A,),
        provider=lambda target: Scripted(answer),
        style=lambda target: "anchored",
        resilience=resilience,
        ledger=Ledger(),
        **more,
    )


async def all_of(job: Job) -> list[Event]:
    return [event async for event in attempts(job)]


async def test_an_error_after_the_terminal_event_does_not_fail_the_stream() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened("r1")
        yield "all of it"
        yield Finished("stop", "stop")
        raise ProviderConnectionError("cut before the usage came")

    events = await all_of(dispatch(answer))
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text == "all of it"


async def test_silence_after_the_terminal_event_does_not_fail_the_stream() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield "all of it"
        yield Finished("stop", "stop")
        await asyncio.Event().wait()

    events = await all_of(dispatch(answer, Resilience(timeouts=Timeouts(idle=0.01))))
    assert isinstance(events[-1], StreamCompleted)


@pytest.mark.parametrize("piece", ["", UsageReport(Usage(5, 5, source="reported")), RawEvent({}), Opened()])
@pytest.mark.parametrize(("clock", "before"), [("first_token", []), ("idle", ["Once"])])
def test_what_is_no_content_stops_no_clock(clock: str, before: list[Piece], piece: Piece) -> None:
    """A vendor that keeps a connection alive in this way is silent all the same."""

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        for each in before:
            yield each
        while True:
            await asyncio.sleep(2)
            yield piece

    async def read() -> float:
        began = asyncio.get_running_loop().time()
        resilience = Resilience(max_retries=0, timeouts=Timeouts(first_token=7, idle=7, total=None))
        with pytest.raises(LLMDispatcherError, match=rf"within 7 s \(the {clock} clock\)"):
            await all_of(dispatch(answer, resilience))
        return asyncio.get_running_loop().time() - began

    assert leap_through(read) == pytest.approx(7, abs=0.01)


async def test_each_event_carries_the_vendors_event_it_was_made_of() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        assert ask.raw
        yield RawEvent({"n": 1})
        yield "one"
        yield RawEvent({"n": 2})
        yield ProviderEvent("search", {})
        yield Finished("stop", None)

    events = await all_of(dispatch(answer, raw=True))
    assert [event.raw for event in events if isinstance(event, (TextDelta, ProviderEvent))] == [{"n": 1}, {"n": 2}]


@pytest.mark.found("R-12")
async def test_missing_input_tokens_are_estimated_and_output_tokens_kept() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield "x" * 400
        yield UsageReport(Usage(output_tokens=7))
        yield Finished("stop", None)

    one = dispatch(answer)
    events = await all_of(one)
    assert [event.usage.source for event in events if isinstance(event, UsageReport)] == ["unknown"]
    (row,) = one.ledger
    assert (row.usage.input_tokens, row.usage.output_tokens, row.usage.source) == (1, 7, "estimated")


@pytest.mark.found("S-D9")
async def test_usage_and_completion_carry_the_vendors_events() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        for number in range(3):
            yield RawEvent({"n": number})
            yield ("x", UsageReport(Usage(1, 1, source="reported")), Finished("stop", None))[number]
        yield RawEvent({"n": 3})

    events = await all_of(dispatch(answer, raw=True))
    raws = [event.raw for event in events if isinstance(event, (TextDelta, UsageReport, StreamCompleted))]
    assert raws == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_the_last_usage_of_the_vendor_is_reported_once() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        for output in (1, 5, 9):
            yield UsageReport(Usage(input_tokens=3, output_tokens=output, source="reported"))
            yield "x"
        yield Finished("stop", None)

    events = await all_of(dispatch(answer))
    reports = [event.usage.output_tokens for event in events if isinstance(event, UsageReport)]
    assert reports == [9]
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].usage.total_tokens == 12


async def test_a_cancelled_reader_is_not_taken_for_a_slow_vendor() -> None:
    seen: list[str] = []

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    job = dispatch(answer, Resilience(timeouts=Timeouts(idle=60)))
    got = asyncio.Event()

    async def read() -> None:
        async for _ in attempts(job):
            got.set()

    task = asyncio.create_task(read())
    await got.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["closed"]
    assert [attempt.outcome for attempt in job.ledger] == ["cancelled"]


def test_no_clock_runs_between_two_attempts() -> None:
    """Neither while the reader looks at an interruption, nor while a retry waits."""
    tries = 0

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        nonlocal tries
        tries += 1
        yield "one two three four five"
        if tries == 1:
            raise ProviderRateLimitError("cut", retry_after=0.05)
        yield "the end"
        yield Finished("stop", None)

    job = dispatch(answer, Resilience(max_retries=1, timeouts=Timeouts(first_token=0.01, idle=0.01)))

    async def read_slowly() -> list[Event]:
        events: list[Event] = []
        async for event in attempts(job):
            events.append(event)
            await asyncio.sleep(0.03)
        return events

    assert isinstance(leap_through(read_slowly)[-1], StreamCompleted)
    assert tries == 2


async def test_a_bug_in_a_provider_is_raised() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield "x"
        raise ZeroDivisionError

    job = dispatch(answer)
    with pytest.raises(ZeroDivisionError):
        await all_of(job)
    assert [attempt.outcome for attempt in job.ledger] == ["failed"]


async def test_one_timer_serves_a_whole_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks are asked on every chunk, and arm a timer a handful of times."""
    armed: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def counting(when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        armed.append(when)
        return call_at(when, *args, **more)

    monkeypatch.setattr(loop, "call_at", counting)
    clocks = Watchdog(Timeouts(first_token=30, idle=20, total=300))
    clocks.arm("first_token")
    for _ in range(1000):
        clocks.disarm()
        clocks.arm("idle")
    clocks.close()
    assert len(armed) == 2


async def test_a_stream_that_is_over_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer would keep the stream in memory until it fires, which may be minutes later."""
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def recording(when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(call_at(when, *args, **more))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", recording)

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield "text"
        yield Finished("stop", "stop")

    await all_of(dispatch(answer, Resilience(timeouts=Timeouts(first_token=30, idle=20, total=300))))
    assert timers and all(timer.cancelled() for timer in timers)


class Once(NoAdmission):
    """Refuses a second attempt at the same target, as a spent retry budget does."""

    def __init__(self) -> None:
        self._asked: set[Target] = set()

    async def enter(self, target: Target, left: float | None) -> Pass | LLMDispatcherError:
        if target in self._asked:
            return ProviderServiceUnavailableError("not asked: the retry budget is spent", provider=target.provider)
        self._asked.add(target)
        return self


async def test_a_refused_retry_is_not_listed_as_one_more_failure() -> None:
    """`AllProvidersFailedError.failures` has what each target said, and not that it was not asked once more."""

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        raise ProviderConnectionError("reset", provider=ask.target.provider)
        yield ""  # type: ignore[unreachable]

    resilience = Resilience(max_retries=2, backoff=0.0)
    job = dispatch(answer, resilience, admission=Once())
    with pytest.raises(AllProvidersFailedError) as raised:
        await all_of(structs.replace(job, targets=(A, Target("b", "m"))))
    assert [(error.provider, error.message) for error in raised.value.failures] == [("a", "reset"), ("b", "reset")]


def test_only_transient_errors_are_retried() -> None:
    wait = Retrying(Resilience(max_retries=2, backoff=1.0, max_backoff=2.0, max_retry_after=10.0)).seconds_to_wait
    broken = ProviderConnectionError("broke")
    for tries, most in ((1, 1.0), (2, 2.0)):
        waits = [wait(broken, tries, None) for _ in range(200)]
        assert all(wait is not None and 0 <= wait <= most for wait in waits)
        assert len(set(waits)) > 100, "full jitter: clients that failed together do not come back together"
    assert wait(broken, 3, None) is None
    assert wait(ProviderAuthenticationError("no"), 1, None) is None
    assert wait(InvalidRequestError("no"), 1, None) is None
    for _ in range(200):
        assert 4.0 <= (wait(ProviderRateLimitError("later", retry_after=4.0), 1, None) or 0.0) <= 4.0 + 2.0
    assert wait(ProviderRateLimitError("later", retry_after=11.0), 1, None) is None
    assert wait(ProviderRateLimitError("later", retry_after=4.0), 1, 3.0) is None, "it would outlast the request"


@pytest.mark.found("B-24")
@given(
    st.floats(0, 20), st.one_of(st.none(), st.floats(0, 60)), st.floats(0, 2), st.floats(0, 10),
)  # fmt: skip
def test_a_retry_waits_for_the_vendors_time_and_a_random_time_more(
    asked: float, left: float | None, backoff: float, most: float
) -> None:
    wait = Retrying(Resilience(max_retries=1, backoff=backoff, max_backoff=most, max_retry_after=20.0)).seconds_to_wait
    error = ProviderRateLimitError("later", retry_after=asked)
    waits = [wait(error, 1, left) for _ in range(50)]
    if left is not None and asked >= left:
        assert waits == [None] * 50
        return
    spread = min(max(asked, backoff), most, *([] if left is None else [(left - asked) / 2]))
    known = [wait for wait in waits if wait is not None]
    assert len(known) == 50
    assert asked <= min(known) and max(known) <= asked + spread + 1e-9
    assert spread < 0.01 or max(known) - min(known) > spread / 4, "they do not come back together"


def test_the_wording_of_a_continuation_is_not_a_template_of_the_text() -> None:
    asked = TaskRequest("hi", images=["a.png"], max_tokens=3)
    request = continuation_request(asked, "let f = {anchor} {0}", "anchored")
    turns = request.conversation
    assert turns[-1].text == CONTINUE_PROMPT.replace("{anchor}", "let f = {anchor} {0}")
    assert request.max_tokens == 8 + 5, "room for the words to repeat, and for a few more"
    assert len(turns[0].parts) == 2, "the picture stays where it was"


def test_after_blank_text_the_request_is_sent_again() -> None:
    request = TaskRequest("hi")
    assert continuation_request(request, " \n", "prefill") is request


async def test_a_missing_first_token_fires_the_clock() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        yield ""
        await asyncio.Event().wait()

    with pytest.raises(ProviderTimeoutError) as raised:
        await all_of(dispatch(answer, Resilience(max_retries=0, timeouts=Timeouts(first_token=0.01))))
    assert raised.value.clock == "first_token"


def test_preparation_counts_towards_no_clock_of_the_vendor() -> None:
    """Loading an SDK takes a second, once; no target is to look slow for it."""

    class Slow(Scripted):
        async def prepare(self) -> None:
            await asyncio.sleep(60)

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield "Hello"
        yield Finished("stop", "stop")

    async def read() -> Ledger:
        job = structs.replace(dispatch(answer), provider=lambda target: Slow(answer))
        await all_of(job)
        return job.ledger

    (attempt,) = leap_through(read)
    assert attempt.elapsed < 30
    assert attempt.first_token_after is not None
    assert attempt.first_token_after < 30


@pytest.mark.parametrize("finished", [True, False])
async def test_a_reader_can_leave_although_closing_the_vendors_stream_fails(finished: bool) -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        try:
            yield Opened("r")
            yield "hello"
            yield UsageReport(Usage(1, 1, source="reported"))
            if finished:
                yield Finished("stop", "stop")
            yield ProviderEvent("citations", {})
            yield ProviderEvent("citations", {})
        finally:
            raise ProviderConnectionError("it would not close", provider="a", model="m")

    given = dispatch(answer)
    events = attempts(given)
    async for event in events:
        if isinstance(event, ProviderEvent):
            break
    await events.aclose()
    assert [attempt.outcome for attempt in given.ledger] == ["cancelled"]


async def test_an_undelivered_tool_call_does_not_end_the_stream() -> None:
    """It came while the join held everything back. With the attempt that broke, it is gone."""
    begun, rest = "one two three four five six seven eight nine ten eleven", " twelve."
    tries = 0

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        nonlocal tries
        tries += 1
        yield Opened()
        if tries == 1:
            yield begun
            raise ProviderConnectionError("cut")
        yield "two three"  # the beginning of the anchor
        if tries == 2:
            yield ToolCallDelta("call", "look_up", "{")
            raise ProviderConnectionError("cut again")
        yield " four five six seven eight nine ten eleven" + rest
        yield Finished("stop", "stop")

    events = await all_of(dispatch(answer, Resilience(max_retries=2, backoff=0.0)))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == begun + rest
    assert not any(isinstance(event, ToolCallDelta) for event in events)


@pytest.mark.parametrize("left_at", [StreamSwitched, StreamStarted, TextDelta])
async def test_a_reader_that_leaves_at_a_switch_has_only_what_was_delivered(left_at: type[Event]) -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened()
        if ask.target == A:
            yield "one two"
            raise ProviderTimeoutError("stalled")  # after a broken connection, the same target would be asked first
        yield " three"
        yield " four"
        await asyncio.Event().wait()

    job = structs.replace(dispatch(answer), targets=(A, Target("b", "m")), style=lambda target: "prefill")
    is_second = False
    async with aclosing(attempts(job)) as events:
        async for event in events:
            is_second = is_second or isinstance(event, StreamSwitched)
            if is_second and isinstance(event, left_at):
                break
    assert [row.delivered for row in job.ledger] == [len("one two"), len(" three") if left_at is TextDelta else 0]
    assert job.ledger[1].usage.output_tokens == 2, "the words that were written, also those that nobody has seen"


# ── a stream of several turns ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_next_turn_goes_on_with_the_numbers_of_the_turn_before() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened("r1")
        yield "one"
        yield "two"
        yield Finished("stop", "stop")

    course = Course()
    job = dispatch(answer)
    first = [event async for event in attempts(job, course)]
    second = [event async for event in attempts(job, Course(course))]
    assert [event.attempt for event in first + second if isinstance(event, StreamStarted)] == [1, 2]
    assert [event.index for event in first + second if isinstance(event, TextDelta)] == [0, 1, 2, 3]


@pytest.mark.parametrize("on_break", ["continue", "restart"])
async def test_a_broken_second_turn_is_saved_and_the_first_one_is_kept(on_break: str) -> None:
    """The text of the first turn is in the second request already, so it is no part of what is to be continued, and a
    restart does not take it from the reader.
    """
    asked: list[Ask] = []

    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        asked.append(ask)
        yield Opened("r1")
        continues = any(turn.role == "assistant" for turn in ask.request.conversation)
        yield f"text {len(asked)} " if not continues else "text 2 text 3 "
        if len(asked) == 2:
            raise ProviderConnectionError("cut")
        yield Finished("stop", "stop")

    course = Course()
    async for _ in attempts(dispatch(answer), course):
        pass
    course.transcript.take(ToolResult("1", "f", "x"))
    job = dispatch(answer, Resilience(max_retries=1, backoff=0.0), on_break=on_break)
    events = [event async for event in attempts(job, Course(course))]
    is_new = on_break == "restart"
    assert [turn.text for turn in asked[2].request.conversation][:2] == (["hi"] if is_new else ["hi", "text 2 "])
    assert (StreamReset() in events) == is_new
    whole = "text 1 text 3 " if is_new else "text 1 text 2 text 3 "
    assert isinstance(events[-1], StreamCompleted) and events[-1].text == whole


async def test_a_second_turn_that_fails_at_once_says_what_the_first_has_delivered() -> None:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        yield Opened("r1")
        yield "text"
        yield Finished("stop", "stop")

    asked = True

    async def broken(ask: Ask) -> AsyncGenerator[Piece, None]:
        if asked:
            raise ProviderAuthenticationError("no")
        yield ""

    course = Course()
    async for _ in attempts(dispatch(answer), course):
        pass
    with pytest.raises(StreamingError) as raised:
        await anext(attempts(dispatch(broken), Course(course)))
    assert raised.value.partial == "text"
