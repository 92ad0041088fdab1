"""`turns_of` makes messages of what a stream has said, and a reset takes back one turn."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llm_dispatcher.events import (
    Event,
    Failure,
    ReasoningDelta,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from llm_dispatcher.streaming._transcript import Transcript
from llm_dispatcher.streaming._turns import turns_of
from llm_dispatcher.tasks import (
    Message,
    ReasoningPart,
    Target,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

BROKE = StreamInterrupted(Failure("StreamTruncatedError", "cut"), 0)


def started(provider: str = "a", attempt: int = 1, rung: str | None = None) -> StreamStarted:
    return StreamStarted(Target(provider, "m"), attempt, cached=False, rung=rung)  # type: ignore[arg-type]


def text(*pieces: str) -> list[Event]:
    return [TextDelta(piece, 0) for piece in pieces]


def call(id: str, name: str = "f", arguments: str = "{}") -> ToolCall:  # noqa: A002 - the event's own word
    return ToolCall(id, name, {}, arguments)


def turns(*events: Event) -> tuple[Message, ...]:
    return turns_of(Transcript.of(events))


def test_a_stream_that_has_said_nothing_adds_no_turn() -> None:
    assert turns() == turns(started()) == turns(started(), ReasoningDelta("")) == ()


def test_text_is_one_part_as_it_came() -> None:
    assert turns(started(), *text("One ", "two.", "\n\n")) == (Message("assistant", "One two.\n\n"),)


def test_calls_and_results_are_two_messages_and_the_results_stand_in_the_order_of_the_calls() -> None:
    said = turns(
        started(), *text("Let me look."), call("1"), call("2", arguments='{"a": 1}'), *text("\n\n"),
        ToolResult("2", "f", error="no such thing"), ToolResult("1", "f", "7"),
        started(attempt=2), *text("It is 7."),
    )  # fmt: skip
    assert said == (
        Message(
            "assistant", (TextPart("Let me look."), ToolCallPart("1", "f", "{}"), ToolCallPart("2", "f", '{"a": 1}'))
        ),
        Message("tool", (ToolResultPart("1", "f", "7"), ToolResultPart("2", "f", "no such thing", error=True))),
        Message("assistant", "It is 7."),
    )  # fmt: skip


def test_the_break_between_two_turns_is_no_part_of_a_message_but_the_models_own_white_space_is() -> None:
    said = turns(
        started(), *text("Look.\n\n"), call("1"), ToolResult("1", "f", "x"),
        started(), call("2"), *text("So.", "\n\n"), ToolResult("2", "f", "y"),
        started(), call("3"), ToolResult("3", "f", "z"),
    )  # fmt: skip
    assert [message.parts for message in said if message.role == "assistant"] == [
        (TextPart("Look.\n\n"), ToolCallPart("1", "f", "{}")),
        (ToolCallPart("2", "f", "{}"), TextPart("So.")),
        (ToolCallPart("3", "f", "{}"),),
    ]


def test_reasoning_has_its_signature_and_the_provider_that_wrote_it() -> None:
    said = turns(
        started("x"), ReasoningDelta("I "), ReasoningDelta("think."), ReasoningDelta("", "s1"),
        ReasoningDelta("", "s2"), ReasoningDelta("More."), *text("Hi."), BROKE,
        started("y", 2, "prefill"), ReasoningDelta("Go on."), *text(" Ho."),
    )  # fmt: skip
    assert said[0].parts == (
        ReasoningPart("I think.", "s1", "x", "m"),
        ReasoningPart("", "s2", "x", "m"),
        ReasoningPart("More.", None, "x", "m"),
        TextPart("Hi."),
        ReasoningPart("Go on.", None, "y", "m"),
        TextPart(" Ho."),
    )


def test_an_attempt_that_begins_anew_replaces_the_reasoning_before_it() -> None:
    for rung in (None, "restarted"):
        said = turns(started("x"), ReasoningDelta("Hm."), BROKE, started("y", 2, rung), *text("Hi."))
        assert said == (Message("assistant", "Hi."),), rung
    assert turns(started("x"), *text("Hi"), BROKE, StreamReset(), started("y", 2, "restarted"), *text("Ho")) == (
        Message("assistant", "Ho"),
    )


def test_a_reset_takes_back_one_turn() -> None:
    first = [started(), *text("One. "), call("1"), *text("\n\n"), ToolResult("1", "f", "x")]
    transcript = Transcript.of([*first, started(attempt=2), *text("Tw"), call("2"), StreamReset()])
    assert (transcript.text, transcript.characters, transcript.chunks) == ("One. \n\n", 7, 3)
    assert [each.id for each in transcript.tool_calls] == ["1"]
    assert turns_of(transcript) == turns(*first)
    transcript.take(StreamReset())
    assert transcript.text == "One. \n\n", "a reset takes back nothing twice"


EVENTS = st.one_of(
    st.sampled_from(["One ", "two", " "]).map(lambda piece: TextDelta(piece, 0)),
    st.builds(ReasoningDelta, st.sampled_from(["", "hm"]), st.sampled_from([None, "sig"])),
    st.sampled_from("123").map(call),
    st.sampled_from("123").map(lambda id: ToolResult(id, "f", id)),  # noqa: A006 - the event's own word
    st.sampled_from([None, "prefill", "restarted", "reattached"]).map(lambda rung: started(rung=rung)),
    st.sampled_from([StreamReset(), BROKE, ToolCallDelta("1", "f", "{")]),
)


@given(st.lists(EVENTS, max_size=30))
def test_whatever_comes_no_turn_is_empty_and_no_turn_of_a_model_follows_another(events: list[Event]) -> None:
    said = turns(*events)
    roles = [message.role for message in said]
    assert all(message.parts for message in said)
    assert ("assistant", "assistant") not in pairwise(roles)
    assert set(roles) <= {"assistant", "tool"}
