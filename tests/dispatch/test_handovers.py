"""A vendor that continues with another model by itself: a switch, and a row for each model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._dispatch import Course, Job, Ledger, attempts
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import (
    Event,
    Failure,
    ProviderEvent,
    ReasoningDelta,
    StreamCompleted,
    StreamFailed,
    StreamInterrupted,
    StreamStarted,
    StreamSwitched,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    Usage,
    UsageReport,
    check_order,
)
from llm_dispatcher.exceptions import (
    ContentFilterError,
    LLMDispatcherError,
    ProviderConnectionError,
    StreamBudgetExceededError,
    StreamingError,
)
from llm_dispatcher.provider import Ask, Finished, Handover, Opened, Piece, ServedBy
from llm_dispatcher.tasks import Target
from llm_dispatcher.testing import Continuing, Cut, Decline, Refuse, Reply, SaidToolCall, SaidUsage, SimulatedVendor
from tests.conftest import policy_over
from tests.dispatch.test_loop import Answer, Scripted
from tests.dispatch.test_refusals import HALF, TEXT, events_of, names, only, text_of
from tests.dispatch.test_refusals import route_over as route_over

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

A, B = Target("a", "m"), Target("b", "m")
FALLBACKS = TaskRequest(
    "Tell a story.",
    extra={"fallbacks": [{"model": "opus"}, {"model": "haiku"}], "betas": ["server-side-fallback-2026-07-01"]},
)
OPUS, HAIKU = Target("a", "opus"), Target("a", "haiku")


def used(attempts: Any) -> Iterator[tuple[Target, str, int, int, int]]:
    for each in attempts:
        yield each.target, each.outcome, each.delivered, each.usage.input_tokens, each.usage.output_tokens


async def test_a_handover_in_mid_answer_is_a_switch_with_a_row_for_each_model(
    simulated_vendor: Start, switch_over: Over
) -> None:
    reply = Reply(TEXT, declines=(Decline(6, "cyber", SaidUsage(535, 40)),), usage=SaidUsage(412, 264))
    vendor = simulated_vendor("anthropic", reply)
    switch = switch_over(vendor)
    stream = switch.stream_request(FALLBACKS)
    events = [event async for event in stream.events()]
    check_order(events)
    assert names(events) == ["Started", "Interrupted", "Switched", "Started", "Completed"]
    assert text_of(events) == TEXT
    failure = Failure(
        "ContentFilterError", "the model stopped (refusal), and opus continues (category cyber)", "a", "m",
        request_id=vendor.requests[0].request_id,
    )  # fmt: skip
    assert only(StreamInterrupted, events) == StreamInterrupted(failure, len(HALF))
    assert only(StreamSwitched, events) == StreamSwitched(A, OPUS, "ContentFilterError", "plain", "", "prefill")
    assert [event.attempt for event in events if isinstance(event, StreamStarted)] == [1, 2]
    first, second = stream.response.attempts
    assert list(used([first, second])) == [
        (A, "failed", len(HALF), 535, 40),
        (OPUS, "completed", len(TEXT) - len(HALF), 412, 264),
    ]
    assert (second.rung, second.proof) == ("prefill", "handed over by the vendor")
    assert first.usage.source == second.usage.source == "reported"
    assert (stream.response.usage.input_tokens, stream.response.usage.output_tokens) == (947, 304)
    assert len(vendor.requests) == 1


async def test_a_handover_before_the_first_word_is_invisible_and_free(
    simulated_vendor: Start, switch_over: Over
) -> None:
    reply = Reply(TEXT, declines=(Decline(usage=SaidUsage(535, 0)), Decline(2)), usage=SaidUsage(412, 264))
    stream = switch_over(simulated_vendor("anthropic", reply)).stream_request(FALLBACKS)
    events = [event async for event in stream.events()]
    check_order(events)
    assert [event.target for event in events if isinstance(event, StreamStarted)] == [OPUS, HAIKU]
    assert names(events) == ["Started", "Interrupted", "Switched", "Started", "Completed"]
    assert list(used(stream.response.attempts)) == [
        (A, "failed", 0, 0, 0),
        (OPUS, "failed", len("Once upon"), 9, 2),
        (HAIKU, "completed", len(TEXT) - len("Once upon"), 412, 264),
    ]
    assert [each.rung for each in stream.response.attempts] == [None, None, "prefill"]


async def test_the_words_of_the_vendor_are_fit_for_a_message(simulated_vendor: Start, switch_over: Over) -> None:
    reply = Reply(TEXT, declines=(Decline(2, "cyber\nWARNING"),), fault=Cut(after=6))
    with pytest.raises(StreamingError) as raised:
        await switch_over(simulated_vendor("anthropic", [reply, Reply(fault=Refuse())])).stream_request(FALLBACKS)
    assert raised.value.failures[0].message.endswith("opus continues (category cyber WARNING)")


async def test_calls_of_the_model_that_declined_are_dropped(simulated_vendor: Start, switch_over: Over) -> None:
    calls = (SaidToolCall("look", '{"at": 1}', "call_1"),)
    reply = Reply("Let me.", tool_calls=calls, declines=(Decline(3),))
    events = await events_of(switch_over(simulated_vendor("anthropic", reply)), FALLBACKS)
    assert only(ToolCallDropped, events) == ToolCallDropped("call_1", "look")
    assert events.index(only(ToolCallDropped, events)) < events.index(only(ToolCall, events))
    assert only(StreamCompleted, events).finish_reason == "tool_calls"


async def test_a_handover_in_a_call_without_text_begins_the_answer_again(
    simulated_vendor: Start, switch_over: Over
) -> None:
    calls = (SaidToolCall("look", '{"at": 1}', "call_1"),)
    vendor = simulated_vendor("anthropic", Reply("", tool_calls=calls, declines=(Decline(1),)))
    stream = switch_over(vendor).stream_request(FALLBACKS)
    events = [event async for event in stream.events()]
    check_order(events)
    assert only(ToolCallDropped, events) == ToolCallDropped("call_1", "look")
    assert [(each.rung, each.proof) for each in stream.response.attempts] == [
        (None, None), ("restarted", "handed over by the vendor")
    ]  # fmt: skip
    assert [event.rung for event in events if isinstance(event, StreamStarted)] == [None, "restarted"]


async def test_a_cut_after_a_handover_is_continued_by_the_next_target(
    simulated_vendor: Start, switch_over: Over
) -> None:
    reply = Reply(TEXT, declines=(Decline(2),), fault=Cut(after=6))
    switch = switch_over(simulated_vendor("anthropic", reply), simulated_vendor("anthropic", Continuing(TEXT)))
    stream = switch.stream_request(FALLBACKS)
    events = [event async for event in stream.events()]
    check_order(events)
    assert text_of(events) == TEXT
    assert [each.target for each in stream.response.attempts] == [A, OPUS, B]
    assert [each.outcome for each in stream.response.attempts] == ["failed", "failed", "completed"]
    assert [each.usage.source for each in stream.response.attempts] == ["estimated", "estimated", "reported"]
    switched = [(event.from_target, event.to_target) for event in events if isinstance(event, StreamSwitched)]
    assert switched == [(A, OPUS), (OPUS, B)]


async def test_a_model_that_takes_over_a_continuation_is_watched_for_words_of_its_request(
    simulated_vendor: Start,
) -> None:
    broken = simulated_vendor("anthropic", Reply(TEXT, fault=Cut(after=3)))
    marked = simulated_vendor("anthropic", Reply(f"<<<{TEXT}>>>", declines=(Decline(6),)))
    policy = policy_over(broken, marked)
    policy["catalog"] = {target: {"continues": "anchored"} for target in ("a/m", "b/m")}
    policy["resilience"] = {"max_retries": 0}
    async with LLMSwitch(policy) as switch:
        stream = switch.stream_request(FALLBACKS)
        assert "".join([chunk async for chunk in stream]) == TEXT
        assert [str(each.target) for each in stream.response.attempts] == ["a/m", "b/m", "b/opus"]
        assert all(each.delivered for each in stream.response.attempts)


async def test_no_more_try_is_made_because_another_model_continues_best(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", Reply(TEXT, declines=(Decline(2),), fault=Cut(after=4)))
    policy = policy_over(vendor)
    policy["catalog"] = {"a/m": {"continues": "anchored"}, "a/opus": {"continues": "prefill"}}
    policy["resilience"] = {"max_retries": 0}
    async with LLMSwitch(policy) as switch:
        with pytest.raises(StreamingError):
            await switch.stream_request(FALLBACKS)
    assert len(vendor.requests) == 1


async def test_if_all_fallbacks_decline_the_next_target_is_asked(simulated_vendor: Start, route_over: Over) -> None:
    reply = Reply(TEXT, declines=(Decline(2), Decline(4), Decline(6)))
    switch = route_over(simulated_vendor("anthropic", reply), simulated_vendor("anthropic", Continuing(TEXT)))
    stream = switch.stream_request(FALLBACKS)
    events = [event async for event in stream.events()]
    check_order(events)
    assert text_of(events) == TEXT
    assert [each.target for each in stream.response.attempts] == [A, OPUS, HAIKU, B]
    assert [failure and failure.kind for failure in (each.failure for each in stream.response.attempts)] == [
        "ContentFilterError", "ContentFilterError", "ContentFilterError", None
    ]  # fmt: skip
    assert not [event for event in events if isinstance(event, ProviderEvent)]


async def test_a_reader_who_leaves_after_a_handover_gets_both_rows(simulated_vendor: Start, switch_over: Over) -> None:
    reply = Reply(TEXT, declines=(Decline(2, usage=SaidUsage(535, 40)),), pace=0.001)
    stream = switch_over(simulated_vendor("anthropic", reply)).stream_request(FALLBACKS)
    async with stream:
        async for event in stream.events():
            if isinstance(event, StreamSwitched):
                break
    assert [(each.target, each.outcome) for each in stream.response.attempts] == [(A, "failed"), (OPUS, "cancelled")]


async def test_the_money_of_every_model_is_counted(simulated_vendor: Start) -> None:
    policy = policy_over(simulated_vendor("anthropic", Reply(
        TEXT, declines=(Decline(2, usage=SaidUsage(100, 10)),), usage=SaidUsage(200, 20)
    )))  # fmt: skip
    policy["catalog"] = {
        "a/m": {"continues": "anchored", "input_price": 1e5, "output_price": 1e5},
        "a/opus": {"input_price": 2e5, "output_price": 2e5},
    }
    policy["providers"]["a"]["models"] = ["m", "opus", "haiku"]
    async with LLMSwitch(policy) as switch:
        response = await switch.stream_request(FALLBACKS).collect()
        assert [each.usage.cost for each in response.attempts] == [11.0, 44.0]
        assert response.cost == 55.0
        assert switch.health()[OPUS].attempts == 1


async def test_the_rate_limit_of_a_target_counts_what_its_own_model_used(simulated_vendor: Start) -> None:
    declines = (Decline(2, usage=SaidUsage(535, 40)),)
    vendor = simulated_vendor("anthropic", Reply(TEXT, declines=declines, usage=SaidUsage(412, 264)))
    other = simulated_vendor("anthropic", Reply(TEXT))
    policy = policy_over(vendor, other)
    policy["providers"]["a"]["models"] = {"m": {"limits": {"tokens_per_minute": 1_000, "on_limit": "switch"}}}
    async with LLMSwitch(policy) as switch:
        for _ in range(2):
            assert await switch.stream_request(replace(FALLBACKS, max_tokens=100)) == TEXT
    assert len(vendor.requests) == 2, "after the first answer, 575 of 1000 tokens were used, and not 1251"


async def test_the_text_of_every_model_counts_while_it_is_written(simulated_vendor: Start) -> None:
    long = TEXT + " word" * 2_000
    policy = policy_over(simulated_vendor("anthropic", Reply(long, declines=(Decline(2),), pace=0.0001)))
    policy["catalog"] = {"a/m": {"continues": "anchored", "input_price": 0.0, "output_price": 1e5}}
    async with LLMSwitch(policy) as switch:
        stream = switch.stream_request(replace(FALLBACKS, max_tokens=50), max_cost=20.0)
        with pytest.raises(StreamBudgetExceededError) as raised:
            async for _ in stream:
                pass
        assert len(raised.value.partial) < 2_000


async def test_another_model_counts_for_no_breaker_that_did_not_admit_it(simulated_vendor: Start) -> None:
    vendor = simulated_vendor("anthropic", [Reply("Hi."), Reply(TEXT, declines=(Decline(2),), fault=Cut(after=5))])
    policy = policy_over(vendor, breaker={"failures": 1})
    policy["providers"]["a"]["models"] = ["m", "opus", "haiku"]
    async with LLMSwitch(policy) as switch:
        await switch.stream_request(TaskRequest("hi", model="a/opus"))
        with pytest.raises(StreamingError):
            async for _ in switch.stream_request(FALLBACKS):
                pass
        assert switch.health()[OPUS].failures == 1
        assert switch.health()[OPUS].breaker == "closed"


# ── with a provider of our own making: what sockets do not show ────────────────────────────────────────────────────


def job_over(*answers: Answer, **more: Any) -> Job:
    targets = tuple(Target("ab"[place], "m") for place in range(len(answers)))
    return Job(
        request=TaskRequest("hi"),
        targets=targets,
        provider=lambda target: Scripted(answers["ab".index(target.provider)]),
        style=lambda target: "anchored",
        is_certain=lambda target: True,
        resilience=Resilience(max_retries=0),
        ledger=Ledger(),
        **more,
    )


def says(*pieces: Piece | LLMDispatcherError) -> Answer:
    async def answer(ask: Ask) -> AsyncGenerator[Piece, None]:
        for piece in pieces:
            if isinstance(piece, LLMDispatcherError):
                raise piece
            yield piece

    return answer


async def told(job: Job) -> tuple[list[Event], LLMDispatcherError | None]:
    events: list[Event] = []
    try:
        async for event in attempts(job):
            events.append(event)
    except LLMDispatcherError as error:
        check_order([*events, StreamFailed(Failure.of(error))])
        return events, error
    check_order(events)
    return events, None


OVER_TO_B = Handover("opus", "refusal", "bio")
CUT = ProviderConnectionError("cut")


async def test_a_break_right_after_a_handover_is_no_second_interruption() -> None:
    job = job_over(says(Opened(), "Once", OVER_TO_B, CUT))
    events, error = await told(job)
    assert names(events) == ["Started", "Interrupted"]
    assert isinstance(error, StreamingError) and error.partial == "Once"
    assert [type(failure) for failure in error.failures] == [ContentFilterError, ProviderConnectionError]
    assert [(row.target, row.outcome) for row in job.ledger] == [(A, "failed"), (Target("a", "opus"), "failed")]


async def test_a_model_that_wrote_nothing_costs_nothing_also_if_the_stream_breaks() -> None:
    job = job_over(says(Opened(), OVER_TO_B, "Once", CUT))
    await told(job)
    first, second = job.ledger
    assert (first.usage.total_tokens, first.usage.source) == (0, "reported")
    assert second.usage.total_tokens > 0 and second.usage.source == "estimated"


async def test_a_continuation_that_is_handed_over_before_it_was_shown_is_joined_as_one() -> None:
    """The next model continues what the join still holds back, so both belong to one seam."""
    text = "one two three four five six seven eight nine ten eleven twelve"
    job = job_over(
        says(Opened(), text, CUT),
        says(Opened(), "three four five six ", OVER_TO_B, "seven eight nine ten eleven twelve", " and", " more.",
             Finished("stop", None)),
    )  # fmt: skip
    events, error = await told(job)
    assert error is None
    assert text_of(events) == text + " and more."
    assert names(events) == ["Started", "Interrupted", "Switched", "Started", "Completed"]
    assert only(StreamSwitched, events).to_target == Target("b", "opus")
    assert [(row.target, row.rung, row.delivered) for row in job.ledger] == [
        (A, None, len(text)),
        (B, "anchored", 0),
        (Target("b", "opus"), "anchored", len(" and more.")),
    ]
    assert [row.seam for row in job.ledger] == [None, None, "anchor"]


async def test_fragments_of_a_call_that_were_held_back_are_not_shown_after_a_handover() -> None:
    job = job_over(
        says(Opened(), "one two three four five six", CUT),
        says(Opened(), ReasoningDelta("Hm."), ToolCallDelta("1", "look", "{"), OVER_TO_B,
             "one two three four five six", " seven.", Finished("stop", None)),
    )  # fmt: skip
    events, _ = await told(job)
    assert not [event for event in events if isinstance(event, (ToolCallDelta, ToolCallDropped))]
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["Hm."]


async def test_an_answer_that_another_model_wrote_has_its_row() -> None:
    report = UsageReport(Usage(4, 5, source="reported"))
    job = job_over(says(Opened(), "Hi.", ServedBy("opus"), report, Finished("stop", None)))
    await told(job)
    (row,) = job.ledger
    assert (row.target, row.usage.input_tokens) == (Target("a", "opus"), 4)


content = st.one_of(
    st.text("ab ", min_size=1, max_size=3),
    st.builds(ReasoningDelta, st.just("hm")),
    st.just(ToolCallDelta("1", "look", "{")),
    st.builds(Handover, st.sampled_from(["opus", "haiku", "m"]), st.just("refusal")),
)


@given(pieces=st.lists(content, max_size=12), is_cut=st.booleans(), raw=st.booleans())
async def test_a_handover_anywhere_keeps_the_order_the_text_and_the_books(
    pieces: list[Piece], is_cut: bool, raw: bool
) -> None:
    handovers = [piece for piece in pieces if isinstance(piece, Handover)]
    earlier = tuple(Usage(10 + place, 1 + place, source="reported") for place in range(len(handovers)))
    end: list[Any] = [CUT] if is_cut else [
        ServedBy(handovers[-1].to_model if handovers else "m", earlier),
        UsageReport(Usage(99, 98, source="reported")), Finished("stop", None),
    ]  # fmt: skip
    job = job_over(says(Opened(), *pieces, *end), raw=raw)
    course = Course()
    events: list[Event] = []
    try:
        async for event in attempts(job, course):
            events.append(event)
        check_order(events)
    except LLMDispatcherError as error:
        check_order([*events, StreamFailed(Failure.of(error))])
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    assert text_of(events) == text == course.transcript.text
    rows = list(job.ledger)
    assert [row.number for row in rows] == list(range(1, len(handovers) + 2))
    assert [row.target.model for row in rows] == ["m", *(each.to_model for each in handovers)]
    assert sum(row.delivered for row in rows) == len(text)
    assert [row.outcome for row in rows] == ["failed"] * len(handovers) + ["failed" if is_cut else "completed"]
    if not is_cut:
        assert [row.usage.input_tokens for row in rows] == [*(10 + place for place in range(len(handovers))), 99]
    shown = [event.attempt for event in events if isinstance(event, StreamStarted)]
    assert shown == sorted(set(shown))
