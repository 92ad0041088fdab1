"""A turn with tool calls: what waits for the end of its answer, in which order it comes, and what a break leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher._dispatch import Course, attempts
from llm_dispatcher._dispatch.continuation import CONTINUE_PROMPT
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import (
    Event,
    Failure,
    ProviderEvent,
    ReasoningDelta,
    StreamCompleted,
    StreamFailed,
    StreamReset,
    StreamStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallDropped,
    ToolResult,
    Usage,
    UsageReport,
    check_order,
)
from llm_dispatcher.exceptions import (
    LLMDispatcherError,
    ProviderServiceUnavailableError,
    StreamingError,
)
from llm_dispatcher.provider import Finished, Handover, Piece
from llm_dispatcher.streaming._transcript import Transcript
from llm_dispatcher.streaming._turns import turns_of
from llm_dispatcher.tasks import Message, ReasoningPart, Target, TaskRequest, TextPart, ToolCallPart, ToolResultPart
from tests.dispatch.scripted import STOP, KeptAnswer, Scripted, in_turn, job_over, read, says, text_in

CALLS = Finished("tool_calls", None)
CUT = ProviderServiceUnavailableError("cut", provider="a", model="m")
BEGUN = "The lamp was lit at dusk by the old keeper. He wrote it into "


def call(id: str = "1", name: str = "look") -> ToolCall:  # noqa: A002 - the event's own word
    return ToolCall(id, name, {}, "{}")


def fragment(id: str = "1", name: str = "look") -> ToolCallDelta:  # noqa: A002
    return ToolCallDelta(id, name, "{}")


def shape(events: Sequence[Event]) -> list[str]:
    """The events in one word each: text, fragments and calls by what is in them."""
    words = []
    for event in events:
        match event:
            case TextDelta():
                words.append(event.text)
            case ToolCallDelta():
                words.append(f"fragment {event.id}")
            case ToolCall():
                words.append(f"call {event.id}")
            case ToolCallDropped():
                words.append(f"dropped {event.id}")
            case _:
                words.append(type(event).__name__.removeprefix("Stream"))
    return words


# ── what waits, and in which order it comes ────────────────────────────────────────────────────────────────────────


async def test_from_the_first_whole_call_on_only_fragments_are_shown_before_the_end() -> None:
    shown_before_the_end: list[Event] = []

    async def answer(ask: Any) -> Any:
        async for piece in says("Well. ", fragment(), call(), "More. ", ReasoningDelta("hm"), fragment("2"), call("2"))(
            ask
        ):
            yield piece
        shown_before_the_end.extend(events)
        yield ProviderEvent("search", {})
        yield UsageReport(Usage(3, 4, source="reported"))
        yield CALLS

    job = job_over({"a": answer})
    events: list[Event] = []
    async for event in attempts(job):
        events.append(event)
    check_order(events)
    assert shape(shown_before_the_end) == ["Started", "Well. ", "fragment 1", "fragment 2"]
    assert shape(events) == [
        "Started", "Well. ", "fragment 1", "fragment 2", "call 1", "More. ", "ReasoningDelta", "call 2",
        "ProviderEvent", "UsageReport", "Completed",
    ]  # fmt: skip
    assert job.ledger[0].delivered == len("Well. More. ")


async def test_a_call_without_text_or_fragments_is_shown_at_the_end() -> None:
    events = await read(job_over({"a": says(call(), call("2"), CALLS)}))
    assert shape(events) == ["Started", "call 1", "call 2", "Completed"]


async def test_text_that_the_join_held_back_comes_before_the_calls() -> None:
    """The anchored model repeats the words, and makes a call before the join has enough of its new text."""
    job = job_over({"a": says(BEGUN, CUT), "b": says(BEGUN, "the log", call(), ".", CALLS)}, {"b": "anchored"})
    events = await read(job)
    check_order(events)
    assert text_in(events) == BEGUN + "the log."
    assert shape(events)[-2:] == ["call 1", "Completed"]
    assert job.ledger[1].seam == "restart"


async def test_calls_need_no_proof_if_no_new_text_came() -> None:
    job = job_over({"a": says(BEGUN, CUT), "b": says(fragment(), call(), CALLS)}, {"b": "anchored"})
    assert shape(await read(job))[-3:] == ["fragment 1", "call 1", "Completed"]


async def test_fragments_wait_with_the_text_while_the_join_has_not_decided() -> None:
    b = says(call(), fragment("2"), call("2"), CUT)
    job = job_over({"a": says(BEGUN, CUT), "b": b, "c": says("the log.", STOP)}, {"b": "anchored"})
    assert shape(await read(job)) == ["Started", BEGUN, "Interrupted", "Switched", "Started", "the log.", "Completed"]


async def test_what_waits_is_counted_once() -> None:
    """The vendor reports no usage, so it is estimated from what the model wrote."""
    job = job_over({"a": says("One two. ", call(), "Three four.", CALLS)})
    await read(job)
    plain = job_over({"a": says("One two. ", "Three four.", CALLS)})
    await read(plain)
    assert job.ledger[0].usage.output_tokens == plain.ledger[0].usage.output_tokens > 0


@pytest.mark.parametrize("place", ["before the call", "after the call"])
async def test_words_of_the_request_beside_a_call_end_the_attempt_before_the_call_is_shown(place: str) -> None:
    ours = " " + CONTINUE_PROMPT.partition(":\n")[0] + ". "
    leaky: list[Piece] = [" the log.", ours, call()] if place == "before the call" else [" the log.", call(), ours]
    job = job_over(
        {"a": says(BEGUN, CUT), "b": says(BEGUN.rstrip(), *leaky, CALLS), "c": says(" as ever.", call("2"), CALLS)},
        {"b": "anchored"},
    )
    events = await read(job)
    check_order(events)
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["2"]
    assert "cut off" not in text_in(events)


@pytest.mark.parametrize("new", [[], ["and "]])
async def test_a_limit_that_ends_an_answer_which_began_again_is_found_before_its_calls_are_shown(
    new: list[str],
) -> None:
    request = TaskRequest("Count.", max_tokens=100)
    words = [f"word{number} " for number in range(12)]
    again = says(*words, *new, call(), Finished("length", None))
    job = job_over(
        {"a": says(*words, CUT), "b": in_turn(again, says(*words, "end.", call("2"), CALLS))}, {"b": "anchored"},
        Resilience(max_retries=1, backoff=0.0), request,
    )  # fmt: skip
    events = await read(job)
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["2"]
    assert [row.failure.kind for row in job.ledger if row.failure][-1] == "StreamTruncatedError"


# ── what a break leaves ────────────────────────────────────────────────────────────────────────────────────────────

PIECES: list[Piece] = [
    "One ", "two ", fragment("1"), fragment("1"), call("1"), fragment("2"), ReasoningDelta("hm"), call("2"), "three.",
]  # fmt: skip


@pytest.mark.parametrize("on_break", ["continue", "restart"])
@pytest.mark.parametrize("place", range(len(PIECES) + 1))
async def test_wherever_a_turn_breaks_its_calls_are_made_once_by_the_attempt_that_is_whole(
    place: int, on_break: str
) -> None:
    async def second(ask: Any) -> Any:
        begun = next((turn.text for turn in ask.request.conversation if turn.role == "assistant"), "")
        left = "One two three."[len(begun) :]
        async for piece in says(left, call("8"), call("9"), CALLS)(ask):
            yield piece

    job = job_over({"a": says(*PIECES[:place], CUT), "b": second}, on_break=on_break)
    events = await read(job)
    check_order(events)
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["8", "9"]
    dropped = {event.id for event in events if isinstance(event, ToolCallDropped)}
    assert dropped == {event.id for event in events if isinstance(event, ToolCallDelta)}
    assert isinstance(events[-1], StreamCompleted) and events[-1].text == "One two three."
    (turn,) = turns_of(Transcript.of(events))
    assert turn.text == "One two three."
    assert [part.id for part in turn.parts if isinstance(part, ToolCallPart)] == ["8", "9"]


@pytest.mark.parametrize("breaks", [[place] for place in range(1, len(PIECES) + 1)] + [range(1, len(PIECES) + 1)])
async def test_a_run_that_is_read_on_has_each_call_once(breaks: Sequence[int]) -> None:
    run = KeptAnswer([*PIECES, CALLS], breaks=breaks)
    job = job_over({"a": lambda ask: run.begin()})
    events = await read(job)
    check_order(events)
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["1", "2"]
    assert not [event for event in events if isinstance(event, ToolCallDropped)]
    assert text_in(events) == "One two three."
    assert sum(row.delivered for row in job.ledger) == len("One two three.")


async def test_a_call_of_a_model_that_hands_over_is_not_made_and_its_text_is_shown() -> None:
    over = Handover("opus", "refusal", None)
    pieces: list[Piece] = ["One ", fragment(), call(), "two ", over, "three.", call("2"), CALLS]
    events = await read(job_over({"a": says(*pieces)}))
    check_order(events)
    assert [event.id for event in events if isinstance(event, ToolCall)] == ["2"]
    assert text_in(events) == "One two three."
    assert ToolCallDropped("1", "look") in events


async def test_a_reader_of_events_gets_a_reset_and_the_calls_of_the_new_answer() -> None:
    job = job_over({"a": says("One", call(), CUT), "b": says("Two", call("2"), CALLS)}, on_break="restart")
    assert shape(await read(job)) == [
        "Started", "One", "Interrupted", "Switched", "Reset", "Started", "Two", "call 2", "Completed",
    ]  # fmt: skip


CONTENT = st.one_of(
    st.sampled_from(["a", "b ", " c"]),
    st.sampled_from([fragment("1"), fragment("2"), call("1"), call("2"), ReasoningDelta("hm"), ProviderEvent("x", {})]),
)


@given(first=st.lists(CONTENT, max_size=8), second=st.lists(CONTENT, max_size=8), third=st.lists(CONTENT, max_size=8))
async def test_no_call_of_a_broken_attempt_is_shown_and_no_text_is_lost_or_moved(
    first: list[Piece], second: list[Piece], third: list[Piece]
) -> None:
    job = job_over({"a": says(*first, CUT), "b": says(*second, CUT), "c": says(*third, STOP)})
    events = await read(job)
    check_order(events)
    before = [list_before_call(pieces) for pieces in (first, second)]
    shown = "".join(piece for pieces in (*before, third) for piece in pieces if isinstance(piece, str))
    completed = events[-1]
    assert isinstance(completed, StreamCompleted) and completed.text == Transcript.of(events).text
    assert sum(row.delivered for row in job.ledger) == len(text_in(events))
    assert "".join(shown.split()) == "".join(text_in(events).split())
    assert [event for event in events if isinstance(event, ToolCall)] == [
        piece for piece in third if isinstance(piece, ToolCall)
    ]


def list_before_call(pieces: list[Piece]) -> list[Piece]:
    place = next((at for at, piece in enumerate(pieces) if isinstance(piece, ToolCall)), len(pieces))
    return pieces[:place]


# ── the turn after ─────────────────────────────────────────────────────────────────────────────────────────────────


async def two_turns(job: Any, following: Any) -> tuple[list[Event], LLMDispatcherError | None]:
    """Read a turn with one call, give its result, and read the next turn of the same stream."""
    course = Course()
    events: list[Event] = [event for event in await read(job, course) if not isinstance(event, StreamCompleted)]
    result = ToolResult("1", "look", "7")
    course.transcript.take(result)
    events.append(result)
    try:
        async for event in attempts(following, Course(course)):
            events.append(event)
    except LLMDispatcherError as error:
        check_order([*events, StreamFailed(Failure.of(error))])
        return events, error
    check_order(events)
    return events, None


def following(before: Any, providers: dict[str, Any], **more: Any) -> Any:
    """The job of the next turn: it has the ledger of the turn before."""
    from msgspec.structs import replace

    return replace(job_over(providers, **more), ledger=before.ledger)


async def test_the_next_turn_goes_on_in_ledger_numbers_and_text() -> None:
    first = job_over({"a": says(CUT), "b": says(ReasoningDelta("I look", "sig"), "Look. ", call(), CALLS)})
    events, error = await two_turns(first, following(first, {"a": says("Seven", CUT), "b": says(".", STOP)}))
    assert error is None
    assert [row.number for row in first.ledger] == [1, 2, 3, 4]
    assert [event.attempt for event in events if isinstance(event, StreamStarted)] == [2, 3, 4]
    assert isinstance(events[-1], StreamCompleted) and events[-1].text == "Look. Seven."
    assert turns_of(Transcript.of(events)) == (
        Message(
            "assistant",
            (ReasoningPart("I look", "sig", "b", "m"), TextPart("Look. "), ToolCallPart("1", "look", "{}")),
        ),
        Message("tool", ToolResultPart("1", "look", "7")),
        Message("assistant", "Seven."),
    )


async def test_a_later_turn_that_breaks_is_continued_from_its_own_text() -> None:
    first = job_over({"a": says("Look. ", call(), CALLS)})
    b = Scripted(says(".", STOP))
    request = TaskRequest(messages=[Message("user", "x"), Message("assistant", ToolCallPart("1", "look", "{}")),
                                    Message("tool", ToolResultPart("1", "look", "7"))])  # fmt: skip
    events, error = await two_turns(first, following(first, {"a": says("Seven", CUT), "b": b}, request=request))
    assert error is None
    assert [turn.role for turn in b.asked[0].request.conversation] == ["user", "assistant", "tool", "assistant"]
    assert b.asked[0].request.conversation[-1].text == "Seven"
    assert text_in(events) == "Look. Seven."


async def test_a_later_turn_may_begin_again_and_takes_back_nothing_of_the_turn_before() -> None:
    first = job_over({"a": says("Look. ", call(), CALLS)})
    again = following(first, {"a": says("Six", CUT), "b": says("Seven.", STOP)}, on_break="restart")
    events, error = await two_turns(first, again)
    assert error is None and StreamReset() in events
    assert isinstance(events[-1], StreamCompleted) and events[-1].text == "Look. Seven."
    assert [message.text for message in turns_of(Transcript.of(events))] == ["Look. ", "", "Seven."]


@pytest.mark.parametrize("text", ["Look. ", ""])
async def test_a_later_turn_that_nobody_answers_names_its_own_failures_and_holds_the_text(text: str) -> None:
    down = ProviderServiceUnavailableError("down", provider="b", model="m")
    first = job_over({"a": says(CUT), "b": says(*[text] * bool(text), call(), CALLS)})
    events, error = await two_turns(first, following(first, {"a": says(down), "b": says(down)}))
    assert isinstance(events[-1], ToolResult)
    assert type(error) is StreamingError and error.partial == text
    assert [str(failure.message) for failure in error.failures] == ["cut", "down", "down"]
    assert isinstance(error.__cause__, LLMDispatcherError)
    assert "cut" not in str(error)
    assert [row.target for row in first.ledger] == [Target(name, "m") for name in "abab"]
