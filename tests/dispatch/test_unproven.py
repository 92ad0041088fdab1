"""A continuation that proves nothing: it is not shown, and the next way is taken."""

from __future__ import annotations

from typing import Any

import pytest

from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import (
    Event,
    ReasoningDelta,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    ToolCall,
    check_order,
)
from llm_dispatcher.exceptions import (
    ProviderServiceUnavailableError,
    StreamingError,
    UnprovenContinuationError,
)
from llm_dispatcher.provider import Ask, Finished, Piece, TokenTrail
from llm_dispatcher.tasks import Target, TaskRequest
from tests.dispatch.scripted import STOP, Scripted, TakesTokens, in_turn, job_over, read, says, text_in

HEAD = ["The keeper wrote ", "to her sister that ", "the light held."]
REST = [" And so ", "did the keeper, ", "all night."]
TEXT = "".join([*HEAD, *REST])
ANCHOR = " ".join("".join(HEAD).split()[-10:])
ANCHOR_OF_HALF = "".join(HEAD[:2]).strip()
OTHER = ["Lighthouses are ", "tall towers by the sea ", "with a lamp at the top, ", "as everybody knows."]
DOWN = ProviderServiceUnavailableError("down", provider="a", model="m")
ALL: dict[str, Any] = dict.fromkeys("abcd", "anchored")


def tried(job: Any) -> list[tuple[str, str | None, str | None]]:
    return [(row.target.provider, row.rung, row.failure and row.failure.kind) for row in job.ledger]


FAILED = ("a", None, "ProviderServiceUnavailableError")


async def test_the_next_target_is_asked_and_nothing_of_it_was_shown() -> None:
    job = job_over({"a": says(*HEAD, DOWN), "b": says(*OTHER, STOP), "c": says(ANCHOR, *REST, STOP)}, ALL)
    events = await read(job)
    check_order(events)
    assert text_in(events) == TEXT
    assert tried(job) == [FAILED, ("b", "anchored", "UnprovenContinuationError"), ("c", "anchored", None)]
    assert (job.ledger[1].delivered, job.ledger[1].proof) == (0, None)
    assert (job.ledger[2].proof or "").startswith("the anchor")
    (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
    assert (switched.from_target, switched.to_target) == (Target("a", "m"), Target("c", "m"))
    assert switched.reason == "ProviderServiceUnavailableError"
    assert sum(isinstance(event, StreamInterrupted) for event in events) == 1


async def test_it_is_not_retried_while_another_target_is_left() -> None:
    retries = Resilience(max_retries=3, backoff=0.0)
    b = Scripted(says(*OTHER, STOP))
    job = job_over({"a": says(*HEAD, DOWN), "b": b, "c": says(ANCHOR, *REST, STOP)}, ALL, retries)
    assert text_in(await read(job)) == TEXT
    assert len(b.asked) == 1


async def test_the_last_target_is_tried_again_as_often_as_the_policy_says() -> None:
    b = Scripted(in_turn(says(*OTHER, STOP), says(ANCHOR, *REST, STOP)))
    job = job_over({"a": says(*HEAD, DOWN), "b": b}, ALL, overrides=retries_at_b(1))
    assert text_in(await read(job)) == TEXT
    assert len(b.asked) == 2


def retries_at_b(number: int, **more: Any) -> Any:
    return lambda target: Resilience(max_retries=number if target.provider == "b" else 0, backoff=0.0, **more)


async def test_the_stream_stops_with_its_error_when_none_is_left() -> None:
    job = job_over({"a": says(*HEAD, DOWN), "b": says(*OTHER, STOP), "c": says(*OTHER, STOP)}, ALL)
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.partial == "".join(HEAD)
    assert [type(failure) for failure in raised.value.failures] == [
        ProviderServiceUnavailableError, UnprovenContinuationError, UnprovenContinuationError,
    ]  # fmt: skip


async def test_the_error_names_the_setting_that_would_have_shown_the_text() -> None:
    hint = "begins with none of the delivered words (resilience.on_unproven: show would show it)"
    job = job_over({"a": says(*HEAD, DOWN), "b": says(*OTHER, STOP), "c": says(*OTHER, STOP)}, ALL)
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert [hint in str(failure) for failure in raised.value.failures] == [False, False, True]  # the last target's
    assert hint in str(raised.value)
    job = job_over({"a": says(*HEAD[:2], DOWN), "b": says(*OTHER, STOP)}, ALL)  # in the middle of a sentence
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert "on_unproven" not in str(raised.value)


@pytest.mark.parametrize("chunks", [OTHER, ["".join(OTHER)]])
async def test_an_unproven_text_is_shown_if_the_policy_says_so_and_nobody_else_is_left(chunks: list[str]) -> None:
    show = Resilience(max_retries=0, on_unproven="show")
    job = job_over({"a": says(*HEAD, DOWN), "b": says(*chunks, STOP), "c": says(*chunks, STOP)}, ALL, show)
    events = await read(job)
    check_order(events)
    assert text_in(events) == "".join([*HEAD, *OTHER])
    assert tried(job) == [FAILED, ("b", "anchored", "UnprovenContinuationError"), ("c", "anchored", None)]
    assert job.ledger[2].proof == "unproven"
    (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
    assert (switched.rung, switched.seam, switched.trimmed) == ("anchored", "plain", "")


async def test_an_unproven_text_is_never_glued_into_a_sentence() -> None:
    show = Resilience(max_retries=0, on_unproven="show")
    job = job_over({"a": says(*HEAD[:2], DOWN), "b": says(*OTHER, STOP)}, ALL, show)
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.partial == "".join(HEAD[:2])


@pytest.mark.parametrize("between", [(), (ReasoningDelta("Hm."),)])
async def test_our_own_wording_in_the_middle_of_a_continuation_breaks_it_there(between: tuple[Piece, ...]) -> None:
    """What was shown before it stays, and the next target goes on behind that. Reasoning in between hides nothing."""
    leak = "Your answer was cut off. Its last words were:\n<<<"
    shown = [" And so ", "did the keeper. "]
    second = " ".join("".join([*HEAD, *shown]).split()[-10:])
    job = job_over(
        {"a": says(*HEAD, DOWN), "b": says(ANCHOR, *shown, *between, leak, "the light held.>>>", STOP),
         "c": says(second, " All night.", STOP)}, ALL,
    )  # fmt: skip
    events = await read(job)
    check_order(events)
    assert "cut off" not in text_in(events)
    assert "<<<" not in text_in(events)
    assert isinstance(events[-1], StreamCompleted)
    assert events[-1].text.startswith("".join(HEAD) + " And so did the keeper.")
    assert events[-1].text.endswith("All night.")
    assert tried(job)[1] == ("b", "anchored", "UnprovenContinuationError")


async def test_a_model_that_quotes_the_request_is_not_read_to_its_end() -> None:
    read_on: list[str] = []

    async def b(ask: Ask) -> Any:
        marked = f"<<<{ANCHOR}>>>"
        async for piece in says(marked, " And so did the keeper.", " <<<", "the light held", ">>> and then")(ask):
            yield piece
        read_on.append("more")
        yield " more of it"
        yield STOP

    job = job_over({"a": says(*HEAD, DOWN), "b": b}, ALL)
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.partial.startswith("".join(HEAD) + " And so did the keeper.")
    assert "<<<" not in raised.value.partial
    assert read_on == []


async def test_our_own_wording_at_the_end_of_an_answer_is_no_end() -> None:
    """The join knows it only when the answer is over."""
    job = job_over({"a": says(*HEAD, DOWN), "b": says(f"<<<{ANCHOR}>>>", " And so did he.", ">>>", STOP)}, ALL)
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.partial == "".join(HEAD) + " And so did he."
    assert tried(job)[1] == ("b", "anchored", "UnprovenContinuationError")


async def test_ids_of_a_text_that_nothing_has_proved_are_not_gone_on_from() -> None:
    async def b(ask: Ask) -> Any:
        async for piece in says(TokenTrail("ids", [1], [2, 3]), *OTHER * 10, DOWN)(ask):
            yield piece

    show = Resilience(max_retries=1, backoff=0.0, on_unproven="show")
    providers: dict[str, Any] = {"a": says(*HEAD, DOWN), "b": TakesTokens(in_turn(b, says("The end.", STOP)))}
    job = job_over(providers, ALL, overrides=lambda target: show if target.provider == "b" else Resilience(0))
    await read(job)
    assert [row.rung for row in job.ledger if row.target.provider == "b"] == ["anchored", "anchored"]
    assert job.ledger[1].delivered > 0


CALL = ToolCall("1", "look_up", {}, "{}")


@pytest.mark.parametrize(
    "before", [[], [ReasoningDelta("I had better look.")], [ANCHOR_OF_HALF], [ReasoningDelta("Hm."), ANCHOR_OF_HALF]]
)
async def test_a_tool_call_without_new_text_needs_no_proof(before: list[Piece]) -> None:
    """The answer was cut in the middle of a sentence. The model repeats its last words, or says nothing, and calls."""
    job = job_over({"a": says(*HEAD[:2], DOWN), "b": says(*before, CALL, Finished("tool_calls", None))}, ALL)
    events = await read(job)
    check_order(events)
    assert text_in(events) == "".join(HEAD[:2])
    assert [event for event in events if isinstance(event, ToolCall)] == [CALL]
    assert isinstance(events[-1], StreamCompleted)


async def test_a_tool_call_proves_no_other_text() -> None:
    job = job_over({"a": says(*HEAD[:2], DOWN), "b": says(*OTHER, CALL, Finished("tool_calls", None))}, ALL)
    with pytest.raises(StreamingError):
        await read(job)


async def test_a_tool_call_alone_needs_no_proof() -> None:
    call = ToolCall("1", "look_up", {}, "{}")
    job = job_over({"a": says(*HEAD, DOWN), "b": says(call, Finished("tool_calls", None))}, ALL)
    events = await read(job)
    check_order(events)
    assert [event for event in events if isinstance(event, ToolCall)] == [call]
    assert isinstance(events[-1], StreamCompleted)


async def test_a_prefill_by_a_host_that_may_not_know_it_has_to_look_like_one() -> None:
    """It began a new answer in the middle of a sentence. The next target is asked."""
    job = job_over(
        {"a": says(HEAD[0] + "to", DOWN), "b": says("## Lighthouses\n\n", *OTHER, STOP),
         "c": says(" her sister that ", HEAD[2], *REST, STOP)},
        {"a": "anchored"}, is_certain=lambda target: target.provider == "c",
    )  # fmt: skip
    assert text_in(await read(job)) == TEXT
    assert tried(job)[1:] == [("b", "prefill", "UnprovenContinuationError"), ("c", "prefill", None)]


# ── readers of the whole ───────────────────────────────────────────────────────────────────────────────────────────


def new_answer(events: list[Event]) -> str:
    """The text after the one reset."""
    (reset,) = [place for place, event in enumerate(events) if isinstance(event, StreamReset)]
    return text_in(events[reset:])


async def test_a_reader_of_the_whole_gets_a_new_answer_when_nothing_can_be_continued() -> None:
    b = Scripted(says(*OTHER, STOP))
    job = job_over({"a": says(*HEAD, DOWN), "b": b}, ALL, reader_has_nothing=True)
    events = await read(job)
    check_order(events)
    assert isinstance(events[-1], StreamCompleted)
    assert new_answer(events) == events[-1].text == "".join(OTHER)
    assert tried(job) == [FAILED, ("b", "anchored", "UnprovenContinuationError"), ("b", "restarted", None)]
    assert job.ledger[2].proof == "a new answer"
    assert b.asked[1].request == TaskRequest("Count.")
    assert [event.rung for event in events if isinstance(event, StreamStarted)] == [None, "restarted"]


async def test_every_target_may_continue_before_one_begins_again() -> None:
    b = Scripted(says(*OTHER, STOP))
    job = job_over({"a": says(*HEAD, DOWN), "b": b, "c": says(ANCHOR, *REST, STOP)}, ALL, reader_has_nothing=True)
    assert text_in(await read(job)) == TEXT
    assert len(b.asked) == 1


@pytest.mark.parametrize("c", ["unproven", "down"])
async def test_the_first_that_proved_nothing_begins_again_when_all_were_asked(c: str) -> None:
    providers = {
        "a": says(*HEAD, DOWN),
        "b": says(*OTHER, STOP),
        "c": says(*OTHER, STOP) if c != "down" else says(DOWN),
    }
    job = job_over(providers, ALL, reader_has_nothing=True)
    events = await read(job)
    check_order(events)
    assert isinstance(events[-1], StreamCompleted)
    assert new_answer(events) == events[-1].text == "".join(OTHER)
    assert [(row.target.provider, row.rung) for row in job.ledger] == [
        ("a", None), ("b", "anchored"), ("c", "anchored"), ("b", "restarted"),
    ]  # fmt: skip


async def test_targets_that_only_fail_still_end_the_stream() -> None:
    job = job_over({"a": says(*HEAD, DOWN), "b": in_turn(says(*OTHER, STOP), says(DOWN)), "c": says(DOWN)}, ALL,
                   reader_has_nothing=True)  # fmt: skip
    with pytest.raises(StreamingError) as raised:
        await read(job)
    assert raised.value.partial == "".join(HEAD)
    assert len(job.ledger) == 4


async def test_the_only_target_begins_again_also_after_its_last_try() -> None:
    """It was asked to continue, which the policy allows once, and proved nothing."""
    a = Scripted(in_turn(says(*HEAD, DOWN), says(*OTHER, STOP)))
    job = job_over({"a": a}, ALL, Resilience(max_retries=1, backoff=0.0), reader_has_nothing=True)
    events = await read(job)
    check_order(events)
    assert new_answer(events) == "".join(OTHER)
    assert [row.rung for row in job.ledger] == [None, "anchored", "restarted"]


async def test_a_provider_that_never_proves_anything_is_not_asked_for_ever() -> None:
    a = Scripted(says(UnprovenContinuationError("no", provider="a", model="m")))
    with pytest.raises(UnprovenContinuationError):
        await read(job_over({"a": a}, reader_has_nothing=True))
    assert len(a.asked) == 4  # each of its two turns has one more try
