"""Asking for the rest: what the next target is sent, how much it may say, and how long it may repeat itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher._dispatch.continuation import A_FEW_TOKENS, continuation_request, count_delivered_tokens
from llm_dispatcher._dispatch.course import Course
from llm_dispatcher._dispatch.row import Row
from llm_dispatcher._join.join import anchor_of
from llm_dispatcher._policy import Continues
from llm_dispatcher._tokens import estimated_tokens
from llm_dispatcher.events import Event, StreamCompleted, StreamSwitched, TextDelta
from llm_dispatcher.exceptions import ProviderTimeoutError, StreamingError
from llm_dispatcher.tasks import ImagePart, Message, ReasoningPart, Target, TextPart, ToolCallPart, ToolResultPart
from llm_dispatcher.testing import CleanEnd, Continuing, Cut, Kind, ReceivedRequest, Reply, SimulatedVendor, Wire
from tests.conftest import policy_over
from tests.faults.leaping_loop import leap_through

Start = Callable[..., SimulatedVendor]
Over = Callable[..., LLMSwitch]

OPEN = "Once upon a time there was a small fox who"
TEXT = OPEN + " liked to read " + " ".join(f"word{number}" for number in range(30)) + " end."
styles: st.SearchStrategy[Continues] = st.sampled_from(["prefill", "anchored"])
wires = pytest.mark.parametrize("wire", list(Wire))


def cut_after(pieces: int) -> Callable[[ReceivedRequest], Reply]:
    """A vendor that goes on with whatever it is asked to go on with, and is cut off after so many pieces."""
    return lambda request: replace(Continuing(TEXT)(request), fault=Cut(pieces))


# ── an assistant turn that the application left open ───────────────────────────────────────────────────────────────


@pytest.mark.found("R-2")
@wires
@pytest.mark.parametrize("kind", [Kind.ANCHOR, Kind.RESTART, Kind.LAST_WORDS])
async def test_an_open_turn_and_the_delivered_text_become_one_turn(
    wire: str, kind: Kind, simulated_vendor: Start, switch_over: Over
) -> None:
    speaker, other = simulated_vendor("openai-chat", cut_after(2)), simulated_vendor(wire, Continuing(TEXT, kind))
    messages = [Message("user", "Tell a story."), Message("assistant", OPEN)]
    response = await switch_over(speaker, other).stream_request(TaskRequest(messages=messages)).collect()
    assert response.text == TEXT.removeprefix(OPEN)
    assert [attempt.outcome for attempt in response.attempts] == ["failed", "completed"]
    (asked,) = other.requests
    turns = [turn for turn in asked.turns if turn.role != "system"]
    assert [turn.role for turn in turns][:2] == ["user", "assistant"]
    assert turns[1].text.rstrip() == f"{OPEN} liked to".rstrip()
    assert all(turn.role == "user" for turn in turns[2:])
    if turns[2:]:  # the words to repeat begin in the application's part of the turn
        assert f"<<<{anchor_of(OPEN + ' liked to')}>>>" in turns[2].text


parts = st.lists(
    st.sampled_from(
        [TextPart("It begins"), TextPart(" so"), ReasoningPart("hm", "signature", "a"), TextPart("…\n"), TextPart("")]
    ),
    max_size=4,
)
histories = st.lists(
    st.sampled_from(
        [
            Message("user", [ImagePart("a.png"), TextPart("What is this?")]),
            Message("assistant", [ToolCallPart("1", "look_up", "{}")]),
            Message("tool", [ToolResultPart("1", "look_up", "a fox")]),
            Message("assistant", "It is a fox."),
        ]
    ),
    max_size=4,
)


@pytest.mark.found("R-2")
@given(histories, parts, st.text("ab \n", min_size=1).filter(str.strip), styles)
def test_only_the_open_turn_changes(before: list[Message], opened: list[Any], delivered: str, style: Continues) -> None:
    request = TaskRequest(messages=[*before, Message("user", "Go on."), Message("assistant", opened)])
    asked = continuation_request(request, delivered, style)
    count = len(request.messages)
    assert asked.messages[: count - 1] == request.messages[:-1]
    assert [turn.role for turn in asked.messages[count - 1 :]] == ["assistant", "user"][: 1 + (style == "anchored")]
    turn = asked.messages[count - 1]
    said = delivered.rstrip() if style == "prefill" else delivered
    assert turn.text == request.messages[-1].text + said
    kinds = [part for part in turn.parts if not isinstance(part, TextPart)]
    assert kinds == [part for part in opened if not isinstance(part, TextPart)]


@given(styles)
def test_a_turn_with_tool_calls_is_not_open(style: Continues) -> None:
    called = Message("assistant", [ToolCallPart("1", "look_up", "{}")])
    asked = continuation_request(TaskRequest(messages=[Message("user", "Go."), called]), "A fox", style)
    assert asked.messages[1] == called
    assert asked.messages[2] == Message("assistant", "A fox")


# ── what is left of max_tokens ─────────────────────────────────────────────────────────────────────────────────────


def row_of(chunks: list[str], shown: int) -> Row:
    row = Row(Target("a", "m"), 1, 0.0)
    row.output = chunks
    row.delivered = shown
    return row


def course_of(rows: list[Row], text: str) -> Course:
    course = Course()
    course.rows += rows
    course.transcript.add(text)
    return course


@pytest.mark.found("R-3")
@given(st.lists(st.lists(st.text("ab éの", min_size=1, max_size=8), min_size=1, max_size=30), max_size=3))
def test_a_text_has_no_more_tokens_than_its_vendors_sent_chunks(attempts: list[list[str]]) -> None:
    text = "".join(chunk for chunks in attempts for chunk in chunks)
    rows = [row_of(chunks, len("".join(chunks))) for chunks in attempts]
    tokens = count_delivered_tokens(course_of(rows, text))
    assert tokens <= sum(map(len, attempts))
    assert tokens <= sum(estimated_tokens("".join(chunks)) for chunks in attempts)
    assert tokens * 8 >= len(text)


@pytest.mark.found("R-3")
def test_trimmed_text_and_reasoning_do_not_count_as_delivered_tokens() -> None:
    said = ["and", " he", " went", " out"]
    thought = ["hm, so the story is to go on from there"] * 4
    assert count_delivered_tokens(course_of([row_of([*said, " and", " in"], len(" and in"))], " and in")) == 2
    assert count_delivered_tokens(course_of([row_of([*thought, *said], len("".join(said)))], "".join(said))) <= 4


@pytest.mark.found("R-3")
def test_long_chunks_are_not_taken_for_tokens() -> None:
    chunk = "The fox went out on a chilly night, and he prayed for the moon to give him light. "
    tokens = count_delivered_tokens(course_of([row_of([chunk] * 10, 10 * len(chunk))], chunk * 10))
    assert tokens == pytest.approx(10 * len(chunk) / 8, abs=1)


@pytest.mark.found("R-3")
@given(st.text("abc \n", max_size=400).filter(str.strip), st.integers(1, 200), st.integers(0, 300), styles)
def test_the_token_limit_leaves_room_for_the_anchor_and_one_token(
    delivered: str, limit: int, tokens: int, style: Continues
) -> None:
    request = TaskRequest("Go.", max_tokens=limit)
    asked = continuation_request(request, delivered, style, delivered_tokens=tokens)
    assert asked.max_tokens is not None
    repeated = estimated_tokens(anchor_of(delivered)) if style == "anchored" else 0
    assert asked.max_tokens >= A_FEW_TOKENS + repeated
    assert asked.max_tokens >= min(limit, limit - tokens + repeated)
    assert asked.max_tokens <= max(limit, A_FEW_TOKENS + repeated), "a target may refuse more than the whole limit"


async def test_a_restart_has_the_token_limit_of_the_whole_answer(simulated_vendor: Start, switch_over: Over) -> None:
    other = simulated_vendor("openai-chat", Reply(TEXT))
    switch = switch_over(simulated_vendor("openai-chat", Reply(TEXT, fault=CleanEnd(20))), other, on_break="restart")
    assert await switch.stream_request(TaskRequest("Go.", max_tokens=100)) == TEXT
    assert other.requests[0].body["max_completion_tokens"] == 100


@pytest.mark.found("R-4")
@wires
@pytest.mark.parametrize("beginning", ["Once upon a", "<<<Once upon", "<<"])
async def test_an_anchor_cut_off_by_the_token_limit_is_not_shown(
    wire: str, beginning: str, simulated_vendor: Start, switch_over: Over
) -> None:
    speaker = simulated_vendor("openai-chat", Reply(TEXT, fault=Cut(9)))
    other = simulated_vendor(wire, Reply(beginning, finish_reason="length"))
    stream = switch_over(speaker, other).stream_request(TaskRequest("Go."))
    with pytest.raises(StreamingError, match="nothing new, and the limit was reached") as caught:
        _ = [chunk async for chunk in stream]
    assert caught.value.partial == OPEN.removesuffix(" who")
    assert stream.response.attempts[1].trimmed == beginning


# ── how long a continuation may repeat itself ──────────────────────────────────────────────────────────────────────

LONG = " ".join(f"word{number}" for number in range(200)) + " end."
BROKEN = Reply(LONG, fault=Cut(150))


def read_in_leaps(*scripts: Any, idle: float | None) -> tuple[Any, list[tuple[float, Event]]]:
    """What a reader gets of simulated vendors with these scripts, and when, in a loop whose clock leaps."""

    async def read() -> tuple[Any, list[tuple[float, Event]]]:
        vendors = [SimulatedVendor("openai-chat", script) for script in scripts]
        for vendor in vendors:
            await vendor.__aenter__()
        try:
            clocks = {"first_token": 300, "idle": idle, "total": None}
            async with LLMSwitch(policy_over(*vendors, timeouts=clocks)) as switch:
                stream = switch.stream_request(TaskRequest("Count."))
                loop = asyncio.get_running_loop()
                events = [(loop.time(), event) async for event in stream.events()]
                return stream.response, events
        finally:
            for vendor in vendors:
                await vendor.__aexit__(None, None, None)

    return leap_through(read)


SLOWLY = replace(Reply(), pace=0.5)


@pytest.mark.found("H-6")
def test_the_idle_clock_gives_up_a_model_that_only_repeats() -> None:
    """Each piece comes in time, but none of them is new. Another target is asked."""
    again = Continuing(LONG, Kind.RESTART, SLOWLY)
    response, events = read_in_leaps(BROKEN, again, Continuing(LONG), idle=5)
    assert response.text == LONG
    assert [attempt.outcome for attempt in response.attempts] == ["failed", "failed", "completed"]
    failure = response.attempts[1].failure
    assert failure.kind == ProviderTimeoutError.__name__
    assert "it only repeated what was delivered for 5 s (the idle clock)" in failure.message
    times = [when for when, event in events if isinstance(event, TextDelta)]
    assert max(after - before for before, after in pairwise(times)) <= 5 + SLOWLY.pace


@pytest.mark.parametrize("idle", [5, None])
def test_the_last_target_is_waited_for_while_it_repeats(idle: float | None) -> None:
    response, _ = read_in_leaps(BROKEN, Continuing(LONG, Kind.RESTART, SLOWLY), idle=idle)
    assert response.text == LONG
    assert [attempt.outcome for attempt in response.attempts] == ["failed", "completed"]
    assert response.attempts[1].seam == "restart"


@pytest.mark.found("H-6")
def test_the_join_waits_for_repeated_words_after_a_remark() -> None:
    """The idle clock runs out in the middle of the anchor: to show it now would repeat it."""
    response, _ = read_in_leaps(BROKEN, Continuing(LONG, Kind.REMARK, replace(Reply(), pace=1.0)), idle=5)
    assert response.text == LONG
    assert response.attempts[1].seam == "anchor"


def test_the_join_waits_for_the_marks_that_close_an_anchor() -> None:
    """The idle clock runs out between the two marks: to decide now would show both as text."""
    slowly = replace(Reply(), pace=0.5, chunk_size=1)
    response, _ = read_in_leaps(replace(BROKEN, chunk_size=7), Continuing(LONG, Kind.BOLD, slowly), idle=1)
    assert response.text == LONG
    assert response.attempts[1].seam == "anchor"


def test_the_join_waits_until_a_repetition_is_long_enough_to_tell() -> None:
    """The idle clock runs out after a few characters of a repetition, which may be new text just as well."""
    slowly = replace(Reply(), pace=0.5, chunk_size=1)
    response, _ = read_in_leaps(BROKEN, Continuing(LONG, Kind.LAST_WORDS, slowly), idle=1)
    assert response.text == LONG
    assert response.attempts[1].seam == "overlap"


@pytest.mark.found("H-6")
def test_text_that_may_be_a_remark_is_refused_after_the_idle_time() -> None:
    words = "It is quite another matter that nobody had thought of at all before that day came. "
    other = Reply(words * 3, pace=2.0)
    response, events = read_in_leaps(BROKEN, other, Continuing(LONG), idle=5)
    assert isinstance(events[-1][1], StreamCompleted)
    assert response.text == LONG
    assert response.attempts[1].failure.kind == "UnprovenContinuationError"
    switched = next(when for when, event in events if isinstance(event, StreamSwitched))
    broken = max(when for when, event in events if isinstance(event, TextDelta) and when < switched)
    assert switched - broken <= 5 + 2 * other.pace
