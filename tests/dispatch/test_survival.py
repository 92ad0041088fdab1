"""Streams that break: the reader's text is the whole text, once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_dispatcher import LLMSwitch, TaskRequest, use_switch
from llm_dispatcher.events import (
    Event,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolCallDropped,
    check_order,
)
from llm_dispatcher.exceptions import (
    AllProvidersFailedError,
    ContentFilterError,
    InvalidRequestError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderRateLimitError,
    ProviderTimeoutError,
    RequestTimeoutError,
    StreamingError,
    StreamTimeoutError,
    StreamTruncatedError,
)
from llm_dispatcher.testing import (
    CleanEnd,
    Continuing,
    Cut,
    ErrorFrame,
    Garbage,
    HttpError,
    KeepAlives,
    Kind,
    MalformedJson,
    ReceivedRequest,
    Refuse,
    Reply,
    SaidToolCall,
    SaidUsage,
    SimulatedVendor,
    SlowHeaders,
    Stall,
    Wire,
)
from tests.conftest import examples, policy_over, thinned
from tests.faults.leaping_loop import leap_through

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

TEXT = " ".join(f"word{number}" for number in range(39)) + " end."
"""Forty chunks, none like another."""
ASK = TaskRequest("Count.", max_tokens=500)

wires = pytest.mark.parametrize("wire", list(Wire))


async def events_of(switch: LLMSwitch, request: TaskRequest = ASK, **settings: Any) -> tuple[list[Event], Any]:
    stream = switch.stream_request(request, **settings)
    events = [event async for event in stream.events()]
    check_order(events)
    return events, stream.response


def text_in(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@wires
@pytest.mark.parametrize("fault", [pytest.param(Cut, marks=pytest.mark.slow), CleanEnd])
async def test_a_break_at_any_chunk_loses_and_repeats_nothing(
    wire: str, fault: Any, simulated_vendor: Start, switch_over: Over
) -> None:
    speaker = simulated_vendor(wire, Reply(TEXT))
    other = simulated_vendor(wire, Continuing(TEXT))
    switch = switch_over(speaker, other)
    pieces = Reply(TEXT).pieces
    assert len(pieces) == 40
    for position in thinned(range(41)):
        speaker.script = Reply(TEXT, fault=fault(position))
        stream = switch.stream_request(ASK)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunks) == TEXT, f"{fault.__name__} after {position} chunks"
        response = stream.response
        assert [attempt.outcome for attempt in response.attempts] == ["failed", "completed"]
        assert sum(attempt.delivered for attempt in response.attempts) == len(TEXT)


EVERY_FAULT: tuple[Any, ...] = (
    Refuse(), HttpError(500), HttpError(503), HttpError(429), HttpError(401), HttpError(404), SlowHeaders(60),
    Stall(0), Stall(7), KeepAlives(0), KeepAlives(7), ErrorFrame(0), ErrorFrame(7), MalformedJson(7), Garbage(7),
)  # fmt: skip


@wires
def test_every_fault_is_survived_on_every_wire(wire: str) -> None:
    """In a loop whose clock leaps, so that no clock rings because the machine is slow."""

    def faulty(request: ReceivedRequest) -> Reply:
        return Reply(TEXT, fault=EVERY_FAULT[int(request.turns[0].text)])

    async def every() -> None:
        async with SimulatedVendor(wire, faulty) as speaker, SimulatedVendor(wire, Continuing(TEXT)) as other:
            clocks = {"first_token": 0.3, "idle": 0.15}
            async with LLMSwitch(policy_over(speaker, other, timeouts=clocks, breaker={"failures": None})) as switch:
                for number, fault in enumerate(EVERY_FAULT):
                    events, response = await events_of(switch, TaskRequest(str(number)))
                    assert text_in(events) == response.text == TEXT, fault
                    assert response.finish_reason == "stop"
                    assert (len(speaker.requests), len(other.requests)) == (number + 1, number + 1), fault
                    committed = response.attempts[0].delivered > 0
                    switched = any(isinstance(event, StreamSwitched) for event in events)
                    assert switched == committed, "a switch before commit is unseen"
                    assert sum(isinstance(event, StreamStarted) for event in events) == 1 + committed

    leap_through(every)


@wires
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.EXACT])
async def test_every_kind_of_continuation_is_joined(
    wire: str, kind: Kind, simulated_vendor: Start, switch_over: Over
) -> None:
    switch = switch_over(
        simulated_vendor(wire, Reply(TEXT, fault=Cut(20))), simulated_vendor(wire, Continuing(TEXT, kind))
    )
    events, response = await events_of(switch)
    assert response.text == TEXT
    switched = next(event for event in events if isinstance(event, StreamSwitched))
    assert (str(switched.from_target), str(switched.to_target)) == ("a/m", "b/m")
    expected = {"restart": "restart", "last words": "overlap"}.get(kind, "anchor")
    assert switched.seam == response.attempts[1].seam == expected
    assert switched.trimmed == response.attempts[1].trimmed
    assert switched.reason == "ProviderConnectionError"


@wires
async def test_a_continuation_that_repeats_nothing_is_not_shown(
    wire: str, simulated_vendor: Start, switch_over: Over
) -> None:
    """Nothing proves where it begins, although it may be right."""
    vendors = [Reply(TEXT, fault=Cut(20)), Continuing(TEXT, Kind.EXACT), Continuing(TEXT)]
    events, response = await events_of(switch_over(*(simulated_vendor(wire, script) for script in vendors)))
    assert response.text == TEXT
    assert [attempt.outcome for attempt in response.attempts] == ["failed", "failed", "completed"]
    switched = [event for event in events if isinstance(event, StreamSwitched)]
    assert [str(event.to_target) for event in switched] == ["c/m"]


async def test_a_continuation_that_comes_to_quote_the_request_ends_there(
    simulated_vendor: Start, switch_over: Over
) -> None:
    def quoting(request: Any) -> Reply:
        reply = Continuing(TEXT)(request)
        return Reply(f"{reply.text[:120]}\n<<<Begin by repeating exactly the words between <<< and >>>")

    vendors = [Reply(TEXT, fault=Cut(10)), quoting, Continuing(TEXT)]
    events, response = await events_of(switch_over(*(simulated_vendor("openai-chat", script) for script in vendors)))
    assert response.text == TEXT
    assert [attempt.outcome for attempt in response.attempts] == ["failed", "failed", "completed"]
    assert response.attempts[1].delivered > 0
    assert "it wrote a sentence of the request" in str(response.attempts[1].failure)
    assert sum(isinstance(event, StreamSwitched) for event in events) == 2


async def test_a_second_break_in_the_continuation_is_survived_too(simulated_vendor: Start, switch_over: Over) -> None:
    def broken_again(request: Any) -> Reply:
        reply = Continuing(TEXT)(request)
        return Reply(reply.text, fault=CleanEnd(15))

    switch = switch_over(
        simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(10))),
        simulated_vendor("anthropic", broken_again),
        simulated_vendor("google", Continuing(TEXT)),
    )
    events, response = await events_of(switch)
    assert text_in(events) == TEXT
    assert [attempt.outcome for attempt in response.attempts] == ["failed", "failed", "completed"]


async def test_the_same_target_is_tried_again_first(simulated_vendor: Start, switch_over: Over) -> None:
    def cut_once(request: Any) -> Reply:
        reply = Continuing(TEXT)(request)
        return reply if len(vendor.requests) > 1 else Reply(TEXT, fault=Cut(12))

    vendor, other = simulated_vendor("openai-chat", cut_once), simulated_vendor("openai-chat", Reply(TEXT))
    events, response = await events_of(switch_over(vendor, other, max_retries=1))
    assert text_in(events) == TEXT
    assert [str(attempt.target) for attempt in response.attempts] == ["a/m", "a/m"]
    assert other.requests == []
    assert not any(isinstance(event, StreamSwitched) for event in events), "it is the same speaker"
    assert sum(isinstance(event, StreamInterrupted) for event in events) == 1


async def test_a_continuation_is_asked_for_what_is_left(simulated_vendor: Start, switch_over: Over) -> None:
    other = simulated_vendor("openai-chat", Continuing(TEXT))
    switch = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=CleanEnd(20))), other)
    await events_of(switch, TaskRequest("Count.", system="Be exact.", max_tokens=100))
    asked = other.requests[0]
    assert [turn.role for turn in asked.turns] == ["user", "assistant", "user"]
    delivered = "".join(Reply(TEXT).pieces[:20])
    assert asked.turns[1].text == delivered
    assert f"<<<{' '.join(delivered.split()[-10:])}>>>" in asked.turns[2].text
    assert asked.system == "Be exact.", "the wording of a continuation is no business of the system prompt's"
    repeated = " ".join(delivered.split()[-10:])
    assert asked.body["max_completion_tokens"] == 100 - 20 + -(-len(repeated) // 4), "a chunk is a token at most"


async def test_the_configured_wording_asks_for_the_rest(simulated_vendor: Start, switch_over: Over) -> None:
    broken = simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(3)))
    other = simulated_vendor("openai-chat", Continuing(TEXT))
    stream = switch_over(broken, other, continuation="Weiter, beginnend mit <<<{anchor}>>>").stream_request(ASK)
    assert await stream == TEXT
    assert other.requests[0].text.startswith("Weiter, beginnend mit <<<")
    assert other.requests[0].system is None


async def test_older_claude_models_continue_an_open_turn(simulated_vendor: Start) -> None:
    speaker = simulated_vendor("openai-chat", Reply("Once upon a time there was", fault=CleanEnd(4)))
    claude = simulated_vendor("anthropic", Continuing("Once upon a time there was"))
    policy = {
        "providers": {
            "a": {"kind": "openai", "api": "chat", "api_key": "test-key", "base_url": speaker.base_url},
            "b": {"kind": "anthropic", "api_key": "test-key", "base_url": claude.base_url},
        },
        "routing": {"default": ["a/m", "b/claude-haiku-4-5"]},
        "resilience": {"max_retries": 0},
    }
    async with LLMSwitch(policy) as switch:
        assert await switch.stream_request(ASK) == "Once upon a time there was"
    assert [turn.role for turn in claude.requests[0].turns] == ["user", "assistant"]
    assert claude.requests[0].text == "Once upon a time"


async def test_a_truncated_stream_is_never_success(simulated_vendor: Start, switch_over: Over) -> None:
    for wire in Wire:
        switch = switch_over(simulated_vendor(wire, Reply(TEXT, fault=CleanEnd(40))))
        with pytest.raises(StreamingError) as raised:
            await switch.stream_request(ASK)
        assert raised.value.partial == TEXT
        assert isinstance(raised.value.failures[-1], StreamTruncatedError)
        switch = switch_over(simulated_vendor(wire, Reply(TEXT, fault=CleanEnd(0))))
        with pytest.raises(StreamTruncatedError):
            await switch.stream_request(ASK)


async def test_missing_usage_is_estimated(simulated_vendor: Start, switch_over: Over) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, usage=None))
    events, response = await events_of(switch_over(vendor))
    assert isinstance(events[-1], StreamCompleted)
    assert response.usage.source == "estimated"


# ── on_break ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_on_break_raise_gives_the_delivered_text(simulated_vendor: Start, switch_over: Over) -> None:
    other = simulated_vendor("openai-chat", Continuing(TEXT))
    switch = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(5))), other, on_break="raise")
    stream = switch.stream_request(ASK)
    got = ""
    with pytest.raises(StreamingError, match="on_break is 'raise'") as raised:
        async for chunk in stream:
            got += chunk
    assert got == raised.value.partial == "".join(Reply(TEXT).pieces[:5])
    assert isinstance(raised.value.failures[0], ProviderConnectionError)
    assert raised.value.usage.source == "estimated"
    assert other.requests == []


async def test_on_break_restart_begins_again_for_readers_that_can_discard(
    simulated_vendor: Start, switch_over: Over
) -> None:
    switch = switch_over(
        simulated_vendor("openai-chat", Reply("A first version.", fault=Cut(2))),
        simulated_vendor("openai-chat", Reply("Another version.")),
        on_break="restart",
    )
    events, response = await events_of(switch)
    reset = next(place for place, event in enumerate(events) if isinstance(event, StreamReset))
    assert text_in(events[:reset]) == "A first"
    assert text_in(events[reset:]) == response.text == "Another version."
    assert await switch.stream_request(ASK) == "Another version."
    with pytest.raises(InvalidRequestError, match="takes back delivered text, which a reader of chunks cannot do"):
        async for _ in switch.stream_request(ASK):
            pass


@pytest.mark.parametrize(
    ("wire", "reply", "request_", "reason"),
    [
        (
            "openai-chat",
            Reply("one two three", fault=Cut(2)),
            TaskRequest("x", response_format={"type": "object"}),
            "follow a schema",
        ),
    ],
)
async def test_an_answer_that_cannot_be_continued_is_an_error_with_its_text(
    wire: str, reply: Reply, request_: TaskRequest, reason: str, simulated_vendor: Start, switch_over: Over
) -> None:
    other = simulated_vendor("openai-chat", Reply(TEXT))
    with pytest.raises(StreamingError, match=reason) as raised:
        async for _ in switch_over(simulated_vendor(wire, reply), other).stream_request(request_):
            pass
    assert raised.value.partial == "".join(reply.pieces)[: len(raised.value.partial)] != ""
    assert other.requests == []


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (HttpError(400), InvalidRequestError),
        (HttpError(422), InvalidRequestError),
        (HttpError(400, code="content_filter"), ContentFilterError),
    ],
)
async def test_an_invalid_request_is_raised_at_once(
    fault: HttpError, error: type[Exception], simulated_vendor: Start, switch_over: Over
) -> None:
    vendor, other = simulated_vendor("openai-chat", Reply(fault=fault)), simulated_vendor("openai-chat")
    with pytest.raises(error):
        await switch_over(vendor, other, max_retries=3).stream_request(ASK)
    assert (len(vendor.requests), len(other.requests)) == (1, 0)


async def test_one_target_raises_its_own_error_and_several_raise_all_errors(
    simulated_vendor: Start, switch_over: Over
) -> None:
    limited = simulated_vendor("anthropic", Reply(fault=HttpError(429, retry_after=0.01)))
    locked = simulated_vendor("google", Reply(fault=HttpError(401)))
    with pytest.raises(ProviderRateLimitError) as single:
        await switch_over(limited, max_retries=2).stream_request(ASK)
    assert (single.value.status, single.value.retry_after, single.value.provider) == (429, 0.01, "a")
    assert len(limited.requests) == 3
    with pytest.raises(AllProvidersFailedError) as several:
        await switch_over(limited, locked).stream_request(ASK)
    assert [type(failure) for failure in several.value.failures] == [
        ProviderRateLimitError,
        ProviderAuthenticationError,
    ]


async def test_a_vendor_that_asks_for_a_long_wait_is_left(simulated_vendor: Start, switch_over: Over) -> None:
    slow = simulated_vendor("openai-chat", Reply(fault=HttpError(429, retry_after=3600)))
    switch = switch_over(slow, simulated_vendor("openai-chat", Reply(TEXT)), max_retries=5)
    assert await switch.stream_request(ASK) == TEXT
    assert len(slow.requests) == 1


async def test_fallback_can_be_switched_off(simulated_vendor: Start, switch_over: Over) -> None:
    other = simulated_vendor("openai-chat", Reply(TEXT))
    switch = switch_over(simulated_vendor("openai-chat", Reply(fault=HttpError(500))), other, fallback_enabled=False)
    plan = switch.explain(ASK)
    assert [str(target) for target in plan.targets] == ["a/m"]
    assert list(plan.rejected.values()) == ["fallback is switched off"]
    with pytest.raises(Exception, match="HTTP 500"):
        await switch.stream_request(ASK)
    assert other.requests == []


# ── clocks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "timeouts", "clock"),
    [
        (SlowHeaders(60), {"first_token": 0.05}, "first_token"),
        (KeepAlives(0), {"first_token": 0.05}, "first_token"),
        (Stall(0), {"first_token": 0.05, "idle": 0.01}, "first_token"),
    ],
)
async def test_a_late_first_token_has_a_clock(
    fault: Any, timeouts: dict[str, float], clock: str, simulated_vendor: Start, switch_over: Over
) -> None:
    with pytest.raises(ProviderTimeoutError) as raised:
        await switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=fault)), timeouts=timeouts).stream_request(
            ASK
        )
    assert raised.value.clock == clock


def read_leaping(
    first: Reply, second: Reply | Continuing, timeouts: dict[str, float], **settings: Any
) -> tuple[str, Any]:
    """What a reader has of two targets, and the ledger."""

    async def read() -> tuple[str, Any]:
        async with (
            SimulatedVendor("openai-chat", first) as one,
            SimulatedVendor("anthropic", second) as another,
            LLMSwitch(policy_over(one, another, timeouts=timeouts)) as switch,
        ):
            stream = switch.stream_request(ASK, **settings)
            return await stream, stream.response

    return leap_through(read)


def test_the_last_of_several_targets_may_take_all_the_time_that_remains() -> None:
    late = Reply(TEXT, fault=SlowHeaders(40))
    assert read_leaping(Reply(TEXT, fault=Stall(0)), late, {"first_token": 10})[0] == TEXT


def test_a_short_total_leaves_each_target_its_share() -> None:
    text, response = read_leaping(Reply(TEXT, fault=Stall(0)), Reply(TEXT), {"first_token": 60}, timeout=3.0)
    assert text == TEXT
    assert (
        "within 1.5 s (the first_token clock), shortened from 60 s to leave time for the next attempt"
        in response.attempts[0].failure.message
    )


async def test_silence_between_deltas_has_a_clock(simulated_vendor: Start, switch_over: Over) -> None:
    switch = switch_over(simulated_vendor("anthropic", Reply(TEXT, fault=KeepAlives(3))), timeouts={"idle": 0.05})
    with pytest.raises(StreamingError) as raised:
        await switch.stream_request(ASK)
    failure = raised.value.failures[0]
    assert isinstance(failure, ProviderTimeoutError)
    assert failure.clock == "idle"


async def test_text_that_arrived_while_the_loop_was_busy_is_not_late(
    simulated_vendor: Start, switch_over: Over
) -> None:
    vendor = simulated_vendor("openai-chat", Reply(TEXT, pace=0.01))

    def hold_up() -> None:
        """As a blocking call somewhere in the application does."""
        assert vendor.requests[0].wait_until_over() == "served"
        time.sleep(0.25)

    text = ""
    async for chunk in switch_over(vendor, timeouts={"idle": 0.2}).stream_request(ASK):
        if not text:
            asyncio.get_running_loop().call_soon(hold_up)
        text += chunk
    assert text == TEXT


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ((Stall(0), Stall(0)), RequestTimeoutError),
        ((Stall(3), Stall(0)), StreamTimeoutError),
    ],
)
def test_the_total_clock_ends_the_stream(faults: tuple[Any, Any], error: type[Exception]) -> None:
    async def read() -> tuple[Exception, list[int]]:
        async with (
            SimulatedVendor("openai-chat", Reply(TEXT, fault=faults[0])) as first,
            SimulatedVendor("openai-chat", Reply(TEXT, fault=faults[1])) as second,
            LLMSwitch(policy_over(first, second, timeouts={"first_token": 20, "idle": 20})) as switch,
        ):
            with pytest.raises(error) as ended:
                await switch.stream_request(ASK, timeout=10)
            return ended.value, [len(vendor.requests) for vendor in (first, second)]

    ended, asked = leap_through(read)
    assert isinstance(ended, TimeoutError)
    assert asked == [1, 1], "neither had more than its share"
    assert isinstance(ended, StreamingError) == (error is StreamTimeoutError)
    assert getattr(ended, "partial", "word0 word1 word2") == "word0 word1 word2"


@pytest.mark.found("S-D1")
@pytest.mark.parametrize("total", [1.0, 8.0, 15.0])
def test_a_stall_in_mid_answer_leaves_time_for_another_vendor(total: float) -> None:
    text, response = read_leaping(Reply(TEXT, fault=Stall(3)), Continuing(TEXT), {}, timeout=total)
    assert text == TEXT
    assert [attempt.outcome for attempt in response.attempts[-2:]] == ["failed", "completed"]
    assert response.attempts[-1].target.provider == "b"
    assert "(the idle clock)" in response.attempts[0].failure.message


@pytest.mark.found("S-D1")
def test_a_stall_with_one_target_leaves_time_for_a_retry() -> None:
    async def read() -> tuple[str, int]:
        async with (
            SimulatedVendor("openai-chat", [Reply(TEXT, fault=Stall(3)), Continuing(TEXT)]) as vendor,
            LLMSwitch(policy_over(vendor, max_retries=1)) as switch,
        ):
            return await switch.stream_request(ASK, timeout=8), len(vendor.requests)

    assert leap_through(read) == (TEXT, 2)


def test_the_readers_time_counts_towards_the_total_clock_only() -> None:
    async def read() -> str:
        text = ""
        async with (
            SimulatedVendor("openai-chat", Reply(TEXT, pace=0.1)) as vendor,
            LLMSwitch(policy_over(vendor, timeouts={"first_token": 2, "idle": 2})) as switch,
        ):
            async for chunk in switch.stream_request(ASK):
                text += chunk
                if text.endswith(("word3", "word20")):
                    await asyncio.sleep(30)  # longer than any clock of the vendor's
        return text

    assert leap_through(read) == TEXT


def test_no_vendor_is_asked_after_the_total_clock_has_run_out() -> None:
    """The reader has held a chunk until then. The break that it finds next is not continued any more."""

    async def read() -> tuple[Exception, list[int]]:
        async with (
            SimulatedVendor("openai-chat", Reply(TEXT, fault=Cut(3))) as first,
            SimulatedVendor("openai-chat", Continuing(TEXT)) as second,
            LLMSwitch(policy_over(first, second)) as switch,
        ):
            with pytest.raises(StreamTimeoutError) as ended:
                async for _ in switch.stream_request(ASK, timeout=10):
                    await asyncio.sleep(20)
            return ended.value, [len(vendor.requests) for vendor in (first, second)]

    ended, asked = leap_through(read)
    assert getattr(ended, "partial", None) == "word0 word1 word2"
    assert asked == [1, 0]


# ── the ledger ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_ledger_has_one_row_for_each_attempt_and_adds_up(simulated_vendor: Start, switch_over: Over) -> None:
    switch = switch_over(
        simulated_vendor("openai-chat", Reply(fault=Refuse())),
        simulated_vendor("anthropic", Reply(TEXT, fault=Cut(10), usage=SaidUsage(input=50, output=40))),
        simulated_vendor("google", Continuing(TEXT, reply=Reply(usage=SaidUsage(input=60, output=30)))),
    )
    _, response = await events_of(switch)
    refused, cut, done = response.attempts
    assert (refused.outcome, refused.usage.source, refused.failure.kind) == (
        "failed",
        "unknown",
        "ProviderConnectionError",
    )
    assert (cut.outcome, cut.usage.source, cut.usage.input_tokens) == ("failed", "estimated", 50)
    assert cut.delivered == len("".join(Reply(TEXT).pieces[:10]))
    assert cut.usage.output_tokens >= cut.delivered // 4
    assert (done.usage.source, done.usage.input_tokens, done.usage.output_tokens) == ("reported", 60, 30)
    assert response.usage.source == "estimated"
    assert response.usage.input_tokens == 110
    assert response.usage.output_tokens == cut.usage.output_tokens + 30
    assert done.first_token_after is not None and done.elapsed >= done.first_token_after
    health = switch.health()
    assert {str(target): (one.attempts, one.failures) for target, one in health.items()} == {
        "a/m": (1, 1), "b/m": (1, 1), "c/m": (1, 0),
    }  # fmt: skip


async def test_each_retry_and_switch_is_a_line_in_the_log_without_the_prompt(
    simulated_vendor: Start, switch_over: Over, caplog: pytest.LogCaptureFixture
) -> None:
    switch = switch_over(
        simulated_vendor("openai-chat", Reply(fault=HttpError(500))),
        simulated_vendor("openai-chat", Reply(TEXT)),
        max_retries=1,
    )
    with caplog.at_level(logging.INFO, "llm_dispatcher"):
        await switch.stream_request(TaskRequest("My secret wish."))
    lines = [record.getMessage() for record in caplog.records if record.name == "llm_dispatcher"]
    assert len(lines) == 2
    assert "trying again" in lines[0]
    assert "gave up" in lines[1]
    assert all("req_sim" in line and "secret" not in line for line in lines)


# ── the grammar ────────────────────────────────────────────────────────────────────────────────────────────────────

any_fault = st.one_of(
    st.none(), st.builds(Cut, st.integers(0, 5), moment=st.just(0.003)), st.builds(CleanEnd, st.integers(0, 5)),
    st.builds(ErrorFrame, st.integers(0, 5)), st.builds(HttpError, st.sampled_from([400, 401, 429, 500])),
    st.just(Refuse()),
)  # fmt: skip
any_reply = st.builds(
    Reply, st.just("one two three four five."), any_fault, reasoning=st.sampled_from([(), ("hm", "so")]),
)  # fmt: skip


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(replies=st.lists(any_reply, min_size=1, max_size=5), on_break=st.sampled_from(["continue", "raise", "restart"]))
async def test_every_stream_follows_the_grammar(replies: list[Reply], on_break: str, switch_over: Over) -> None:
    with SimulatedVendor("ollama", replies) as one, SimulatedVendor("ollama", replies[::-1]) as two:
        async with switch_over(one, two, max_retries=1, on_break=on_break) as switch:
            with use_switch(switch):
                events, response = await events_of(switch)
    if isinstance(events[-1], StreamCompleted):
        assert response.error is None
        assert response.text.endswith("five.")
    else:
        assert response.error is not None


# ── tool calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.found("H-2")
@pytest.mark.parametrize("on_break", ["continue", "restart"])
async def test_a_call_that_was_whole_before_its_answer_broke_is_dropped(
    on_break: str, simulated_vendor: Start, switch_over: Over
) -> None:
    calls = (SaidToolCall("look_up", '{"a": 1}'), SaidToolCall("look_up", '{"b": 2}', id="call_2"))
    whole = Reply("Let me look.", tool_calls=calls[:1])
    # The responses wire says that a call is whole before the answer is.
    broken = Reply("Let me look.", tool_calls=calls, fault=Cut(6))
    switch = switch_over(
        simulated_vendor("openai-responses", broken), simulated_vendor("openai-responses", whole), on_break=on_break
    )
    events, response = await events_of(switch)
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("look_up", {"a": 1})]
    assert [event for event in events if isinstance(event, ToolCall)] == list(response.tool_calls)
    assert [event.name for event in events if isinstance(event, ToolCallDropped)] == ["look_up"] * 2
