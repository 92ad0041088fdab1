"""Refusals and filters: `on_refusal: next` asks the next target, as long as there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from llm_dispatcher import LLMSwitch, TaskRequest, llm_stream, use_switch
from llm_dispatcher.events import (
    Event,
    ProviderEvent,
    ReasoningDelta,
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
    ProviderServiceUnavailableError,
    StreamingError,
)
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import (
    Continuing,
    Cut,
    Decline,
    HttpError,
    Reply,
    SaidToolCall,
    SimulatedVendor,
    Wire,
)
from tests.conftest import policy_over

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

TEXT = "Once upon a time there was a fox who liked to read."
HALF = "Once upon a time there was"
ASK = TaskRequest("Tell a story.")
A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")
FILTER = Reply(fault=HttpError(400, code="content_filter"))
SILENT = Reply("", finish_reason="content_filter")
BROKEN_OFF = Reply(HALF, finish_reason="content_filter")
SPOKEN = Reply("I will not.", finish_reason="refusal")

telling = [Wire.OPENAI_CHAT, Wire.OPENAI_RESPONSES, Wire.ANTHROPIC, Wire.GOOGLE]
"""The wires on which a vendor can say that an answer was refused. Ollama has no word for it."""


@pytest.fixture
async def route_over() -> AsyncIterator[Over]:
    """Switches over simulated vendors, whose route says `on_refusal: next`."""
    made: list[LLMSwitch] = []

    def make(*vendors: SimulatedVendor, on_refusal: str = "next", **resilience: Any) -> LLMSwitch:
        policy = policy_over(*vendors, **resilience)
        policy["routing"]["on_refusal"] = on_refusal
        made.append(LLMSwitch(policy))
        return made[-1]

    yield make
    for switch in made:
        await switch.aclose()


async def events_of(switch: LLMSwitch, request: TaskRequest = ASK, **options: Any) -> list[Event]:
    events = [event async for event in switch.stream_request(request, **options).events()]
    check_order(events)
    return events


def names(events: list[Event]) -> list[str]:
    """The events in order, without the content of the answer."""
    plain = (TextDelta, ReasoningDelta)
    found = [type(event).__name__.removeprefix("Stream") for event in events if not isinstance(event, plain)]
    return [name for name in found if name != "UsageReport"]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def only(kind: type, events: list[Event]) -> Any:
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


# ── stop, which is the default ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", telling)
@pytest.mark.parametrize("reply", [SILENT, BROKEN_OFF])
async def test_a_refusal_is_the_answer_by_default(
    wire: Wire, reply: Reply, simulated_vendor: Start, route_over: Over
) -> None:
    other = simulated_vendor("openai-chat", Reply(TEXT))
    response = await route_over(simulated_vendor(wire, reply), other, on_refusal="stop").stream_request(ASK).collect()
    assert response.text == reply.text
    assert response.finish_reason == ("refusal" if wire == "anthropic" else "content_filter")
    assert [attempt.outcome for attempt in response.attempts] == ["completed"]
    assert other.requests == []


async def test_by_default_a_spoken_refusal_is_an_event(simulated_vendor: Start, route_over: Over) -> None:
    other = simulated_vendor("openai-chat", Reply(TEXT))
    events = await events_of(route_over(simulated_vendor("openai-chat", SPOKEN), other, on_refusal="stop"))
    said = "".join(event.data["text"] for event in events if isinstance(event, ProviderEvent))
    assert (said, only(StreamCompleted, events).finish_reason) == ("I will not.", "refusal")
    assert other.requests == []


async def test_by_default_a_spoken_refusal_is_shown_as_it_comes(simulated_vendor: Start, route_over: Over) -> None:
    cut = Reply("I will not.", finish_reason="refusal", fault=Cut(after=2))
    events = [event async for event in route_over(simulated_vendor("openai-chat", cut), on_refusal="stop")
              .stream_request(ASK).events()]  # fmt: skip
    assert "".join(event.data["text"] for event in events if isinstance(event, ProviderEvent)) == "I will"


# ── before the reader has anything ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", telling)
@pytest.mark.parametrize("other", list(Wire))
async def test_a_refusal_before_the_first_word_is_invisible(
    wire: Wire, other: Wire, simulated_vendor: Start, route_over: Over
) -> None:
    switch = route_over(simulated_vendor(wire, SILENT), simulated_vendor(other, Reply(TEXT)))
    events = await events_of(switch)
    assert names(events) == ["Started", "Completed"]
    assert (text_of(events), only(StreamStarted, events).target) == (TEXT, B)
    assert only(StreamCompleted, events).finish_reason == "stop"


@pytest.mark.parametrize("wire", [wire for wire in Wire if wire is not Wire.OLLAMA])
async def test_a_filter_that_answers_with_an_http_error_is_the_same(
    wire: Wire, simulated_vendor: Start, route_over: Over
) -> None:
    switch = route_over(simulated_vendor(wire, FILTER), simulated_vendor("openai-chat", Reply(TEXT)), max_retries=3)
    response = await switch.stream_request(ASK).collect()
    assert response.text == TEXT
    first, second = response.attempts
    assert (first.outcome, first.failure and first.failure.kind) == ("failed", "ContentFilterError")
    assert (first.delivered, second.delivered, second.rung) == (0, len(TEXT), None)


@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses"])
async def test_what_a_model_says_in_refusing_is_not_shown_if_another_one_answers(
    wire: str, simulated_vendor: Start, route_over: Over
) -> None:
    switch = route_over(simulated_vendor(wire, SPOKEN), simulated_vendor("anthropic", Reply(TEXT)))
    events = await events_of(switch)
    assert (names(events), text_of(events)) == (["Started", "Completed"], TEXT)


async def test_the_error_of_a_refusal_has_none_of_its_words(simulated_vendor: Start, route_over: Over) -> None:
    """They may quote the prompt, and errors are logged."""
    switch = route_over(simulated_vendor("openai-chat", SPOKEN), simulated_vendor("anthropic", Reply(TEXT)))
    response = await switch.stream_request(ASK).collect()
    failure = response.attempts[0].failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("ContentFilterError", "the model refused to answer")
    assert failure.request_id


async def test_the_body_answers_after_a_refusal_before_the_first_word(
    simulated_vendor: Start, route_over: Over
) -> None:
    vendor = simulated_vendor("openai-chat", SILENT)
    policy = policy_over(vendor)
    policy["routing"] = {"default": ["a/m", "body"], "on_refusal": "next"}
    async with LLMSwitch(policy) as switch:
        with use_switch(switch):

            @llm_stream
            async def story(topic: str) -> AsyncIterator[str]:
                yield "By hand."

            assert await story("foxes") == "By hand."


# ── in mid-answer ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", telling)
@pytest.mark.parametrize("other", list(Wire))
async def test_an_answer_that_was_refused_halfway_is_continued(
    wire: Wire, other: Wire, simulated_vendor: Start, route_over: Over
) -> None:
    switch = route_over(simulated_vendor(wire, BROKEN_OFF), simulated_vendor(other, Continuing(TEXT)))
    events = await events_of(switch)
    assert names(events) == ["Started", "Interrupted", "Switched", "Started", "Completed"]
    assert text_of(events) == TEXT
    assert only(StreamCompleted, events).finish_reason == "stop"
    interrupted, switched = only(StreamInterrupted, events), only(StreamSwitched, events)
    assert (interrupted.failure.kind, interrupted.delivered) == ("ContentFilterError", len(HALF))
    assert (switched.from_target, switched.to_target, switched.reason) == (A, B, "ContentFilterError")
    assert switched.rung in ("anchored", "prefill")


@pytest.mark.parametrize("wire", telling)
async def test_on_break_raise_leaves_the_refusal_as_it_is(
    wire: Wire, simulated_vendor: Start, route_over: Over
) -> None:
    other = simulated_vendor("openai-chat", Continuing(TEXT))
    switch = route_over(simulated_vendor(wire, BROKEN_OFF), other, on_break="raise")
    response = await switch.stream_request(ASK).collect()
    assert response.text == HALF
    assert response.finish_reason == ("refusal" if wire == "anthropic" else "content_filter")
    assert other.requests == []


async def test_a_refusal_that_stands_is_shown_with_its_words(simulated_vendor: Start, route_over: Over) -> None:
    """They were held back, because another target might have been asked."""
    refusal = Reply(HALF, declines=(Decline(3, "cyber"),))
    switch = route_over(simulated_vendor("anthropic", refusal), simulated_vendor("google"), on_break="raise")
    events = await events_of(switch)
    assert names(events) == ["Started", "ProviderEvent", "Completed"]
    assert only(ProviderEvent, events).data["category"] == "cyber"


async def test_the_category_of_a_refusal_is_in_its_error(simulated_vendor: Start, route_over: Over) -> None:
    refusal = Reply(HALF, declines=(Decline(0, "cyber"),))
    switch = route_over(simulated_vendor("anthropic", refusal), simulated_vendor("google", Reply(TEXT)))
    response = await switch.stream_request(ASK).collect()
    failure = response.attempts[0].failure
    assert failure is not None and failure.message == "the model refused to answer (category cyber)"


async def test_what_a_call_asks_of_its_routing_leaves_the_routes_word_on_refusals(
    simulated_vendor: Start, route_over: Over
) -> None:
    switch = route_over(simulated_vendor("openai-chat", SILENT), simulated_vendor("google", Reply(TEXT)))
    assert await switch.stream_request(ASK, optimization_strategy="ordered", max_latency=60.0) == TEXT


async def test_on_break_restart_begins_the_answer_again(simulated_vendor: Start, route_over: Over) -> None:
    switch = route_over(
        simulated_vendor("openai-chat", BROKEN_OFF), simulated_vendor("google", Reply("A fox read.")),
        on_break="restart",
    )  # fmt: skip
    events = await events_of(switch)
    assert names(events) == ["Started", "Interrupted", "Switched", "Reset", "Started", "Completed"]
    assert only(StreamCompleted, events).text == "A fox read."
    assert only(StreamReset, events) is not None


@pytest.mark.parametrize(
    ("reply", "request_"),
    [
        (BROKEN_OFF, TaskRequest("hi", response_format={"type": "object", "properties": {}})),
    ],
)
async def test_what_cannot_be_continued_stays_refused(
    reply: Reply, request_: TaskRequest, simulated_vendor: Start, route_over: Over
) -> None:
    other = simulated_vendor("openai-chat", Reply(TEXT))
    switch = route_over(simulated_vendor("openai-chat", reply), other)
    events = await events_of(switch, request_)
    assert only(StreamCompleted, events).finish_reason == "content_filter"
    assert other.requests == []


async def test_the_calls_of_a_refused_answer_are_not_made(simulated_vendor: Start, route_over: Over) -> None:
    refused = Reply(HALF, tool_calls=(SaidToolCall("look"),), finish_reason="content_filter")
    other = simulated_vendor("openai-chat", Reply(TEXT))
    events = await events_of(route_over(simulated_vendor("openai-chat", refused), other), ASK)
    assert not [event for event in events if isinstance(event, ToolCall)]
    assert only(ToolCallDropped, events).name == "look"
    assert only(StreamCompleted, events).finish_reason == "stop"
    assert len(other.requests) == 1


async def test_the_body_does_not_continue_a_refused_answer(simulated_vendor: Start) -> None:
    policy = policy_over(simulated_vendor("openai-chat", BROKEN_OFF))
    policy["routing"] = {"default": ["a/m", "body"], "on_refusal": "next"}
    async with LLMSwitch(policy) as switch:
        with use_switch(switch):

            @llm_stream
            async def story(topic: str) -> AsyncIterator[str]:
                yield "By hand."

            stream = story("foxes")
            assert [chunk async for chunk in stream] == list(BROKEN_OFF.pieces)
            assert stream.response.finish_reason == "content_filter"


# ── when nobody is left ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wire", telling)
async def test_the_last_refusal_is_the_answer(wire: Wire, simulated_vendor: Start, route_over: Over) -> None:
    switch = route_over(simulated_vendor("openai-chat", SILENT), simulated_vendor(wire, SILENT))
    events = await events_of(switch)
    assert names(events) == ["Started", "Completed"]
    assert (only(StreamStarted, events).target, text_of(events)) == (B, "")
    assert only(StreamCompleted, events).finish_reason in ("refusal", "content_filter")


async def test_the_last_spoken_refusal_is_shown(simulated_vendor: Start, route_over: Over) -> None:
    switch = route_over(simulated_vendor("openai-chat", SILENT), simulated_vendor("openai-chat", SPOKEN))
    events = await events_of(switch)
    said = "".join(event.data["text"] for event in events if isinstance(event, ProviderEvent))
    assert (said, only(StreamCompleted, events).finish_reason) == ("I will not.", "refusal")


async def test_the_last_filter_error_is_raised(simulated_vendor: Start, route_over: Over) -> None:
    switch = route_over(simulated_vendor("openai-chat", SILENT), simulated_vendor("anthropic", FILTER))
    with pytest.raises(ContentFilterError) as raised:
        await switch.stream_request(ASK)
    assert (raised.value.provider, raised.value.status) == ("b", 400)


async def test_a_filter_error_in_mid_answer_with_nobody_left_keeps_the_text(
    simulated_vendor: Start, route_over: Over
) -> None:
    switch = route_over(simulated_vendor("openai-chat", BROKEN_OFF), simulated_vendor("anthropic", FILTER))
    with pytest.raises(StreamingError) as raised:
        async for _ in switch.stream_request(ASK):
            pass
    assert raised.value.partial == HALF
    assert [type(failure) for failure in raised.value.failures] == [ContentFilterError, ContentFilterError]


async def test_the_error_of_everyone_names_the_refusal_too(simulated_vendor: Start, route_over: Over) -> None:
    down = simulated_vendor("anthropic", Reply(fault=HttpError(503)))
    switch = route_over(simulated_vendor("openai-chat", SILENT), down)
    with pytest.raises(AllProvidersFailedError, match="a filter stopped the answer") as raised:
        await switch.stream_request(ASK)
    kinds = [type(failure) for failure in raised.value.failures]
    assert kinds == [ContentFilterError, ProviderServiceUnavailableError]
    assert [failure.retryable for failure in raised.value.failures] == [False, True]


async def test_a_refusal_is_not_retried(simulated_vendor: Start, route_over: Over) -> None:
    first = simulated_vendor("openai-chat", SILENT)
    await route_over(first, simulated_vendor("google", Reply(TEXT)), max_retries=3).stream_request(ASK)
    assert len(first.requests) == 1


# ── health ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reply", [SILENT, FILTER, BROKEN_OFF])
async def test_a_refusal_is_no_failure_of_the_vendor(reply: Reply, simulated_vendor: Start, route_over: Over) -> None:
    first = simulated_vendor("openai-chat", reply)
    switch = route_over(first, simulated_vendor("google", Continuing(TEXT)), breaker={"failures": 2})
    for _ in range(6):
        assert await switch.stream_request(ASK) == TEXT
    assert len(first.requests) == 6, "the breaker is closed"
    health = switch.health()[A]
    assert (health.attempts, health.failures, health.failures_in_a_row) == (6, 0, 0)
