"""A run that the vendor keeps and that continues an answer: what the next reading takes over, and when it is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_dispatcher._dispatch import NoAdmission, Pass, attempts
from llm_dispatcher._resilience import Resilience
from llm_dispatcher.events import Event, ProviderEvent, StreamSwitched, ToolCall, check_order
from llm_dispatcher.exceptions import LLMDispatcherError, ProviderConnectionError, StreamingError
from llm_dispatcher.provider import Finished, Piece, Rung
from llm_dispatcher.tasks import Target, TaskRequest
from tests.dispatch.scripted import STOP, KeptAnswer, Scripted, in_turn, job_over, read, says, text_in

HEAD = "The keeper wrote to her sister that "
REST = "the light held. "
CUT = ProviderConnectionError("cut", provider="a", model="m")
ANCHORED: Any = {"a": "anchored", "b": "anchored"}
OTHER: list[Piece] = [
    "Lighthouses are tall towers by the sea. " * 4,
    *[f"Fact {number}. " for number in range(40)],
    STOP,
]


async def read_until_it_ends(job: Any) -> tuple[list[Event], LLMDispatcherError | None]:
    events: list[Event] = []
    try:
        async for event in attempts(job):
            events.append(event)
    except LLMDispatcherError as error:
        return events, error
    return events, None


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_the_rest_of_a_refused_text_is_neither_read_nor_shown(retries: int) -> None:
    runs: list[KeptAnswer] = []

    def answer(ask: Any) -> Any:
        runs.append(KeptAnswer(OTHER))
        return runs[-1].begin()

    job = job_over({"a": says(HEAD, CUT), "b": answer}, ANCHORED, Resilience(max_retries=retries, backoff=0.0))
    events, error = await read_until_it_ends(job)
    assert text_in(events) == HEAD
    assert isinstance(error, StreamingError)
    assert [row.rung for row in job.ledger if row.target.provider == "b"] == ["anchored"] * (1 + retries)
    await settled()
    assert [(run.reads, run.cancels) for run in runs] == [(0, 1)] * (1 + retries)


async def test_a_refused_run_is_left_before_the_same_target_begins_again() -> None:
    run, new = KeptAnswer(OTHER), KeptAnswer(["A new ", "answer.", STOP])
    answers = in_turn(lambda ask: run.begin(), lambda ask: new.begin())
    job = job_over({"a": says(HEAD, CUT), "b": answers}, ANCHORED, reader_has_nothing=True)
    events, error = await read_until_it_ends(job)
    assert error is None
    assert text_in(events[-3:]) == "A new answer."
    assert [row.rung for row in job.ledger if row.target.provider == "b"] == ["anchored", "restarted"]
    await settled()
    assert (run.reads, run.cancels, new.cancels) == (0, 1, 0)


async def test_a_leak_ends_the_reading_of_a_run() -> None:
    """The model writes the request after some new text. Reading on would find the same, event for event."""
    quotation = "Begin by repeating exactly the words between the marks, without the marks, and go straight on. "
    pieces: list[Piece] = [
        f"<<<{HEAD.strip()}>>> ",
        REST,
        quotation,
        *[f"Fact {number}. " for number in range(40)],
        STOP,
    ]
    run = KeptAnswer(pieces)
    answers = in_turn(lambda ask: run.begin(), says(CUT))
    job = job_over({"a": says(HEAD, CUT), "b": answers}, ANCHORED, Resilience(max_retries=1, backoff=0.0))
    events, error = await read_until_it_ends(job)
    assert isinstance(error, StreamingError)
    assert "repeating" not in text_in(events)
    await settled()
    assert (run.reads, run.cancels) == (0, 1)


@pytest.mark.parametrize("breaks", [[1], [1, 2]])
async def test_a_whole_tool_call_that_waits_is_shown_when_its_run_was_read_to_its_end(breaks: list[int]) -> None:
    """The call came before the first break."""
    call = ToolCall("1", "look", {}, "{}")
    run = KeptAnswer([call, HEAD, REST, Finished("tool_calls", None)], breaks=breaks)
    job = job_over({"a": says(HEAD, CUT), "b": lambda ask: run.begin()}, ANCHORED)
    events = await read(job)
    check_order(events)
    assert [event for event in events if isinstance(event, ToolCall)] == [call]
    assert text_in(events) == HEAD + REST


@pytest.mark.parametrize("breaks", [[1], [1, 2]])
async def test_a_whole_tool_call_of_a_run_that_ends_too_early_is_never_shown(breaks: list[int]) -> None:
    call, other = ToolCall("1", "look", {}, "{}"), ToolCall("2", "look", {}, "{}")
    run = KeptAnswer([call, HEAD, REST, "x"], breaks=breaks, ends_at=3)
    c = says(HEAD, REST, other, Finished("tool_calls", None))
    job = job_over({"a": says(HEAD, CUT), "b": lambda ask: run.begin(), "c": c}, {**ANCHORED, "c": "anchored"})
    events = await read(job)
    check_order(events)
    assert [event for event in events if isinstance(event, ToolCall)] == [other]
    assert text_in(events) == HEAD + REST


async def test_the_words_of_a_refusal_are_shown_whole() -> None:
    """They wait until it is known that nobody else answers, and the run breaks among them."""
    words = [ProviderEvent("refusal", {"text": text}) for text in ("I ", "can", "not.")]
    run = KeptAnswer(["Well. ", *words, Finished("refusal", None)], breaks=[2])
    whole = TaskRequest("x", response_format={"type": "object"})  # it is not continued, so the refusal stands
    job = job_over({"a": lambda ask: run.begin(), "b": says(CUT)}, request=whole, on_refusal="next")
    events = await read(job)
    assert [event for event in events if isinstance(event, ProviderEvent)] == words


async def test_a_run_of_which_nothing_is_shown_may_break_very_often() -> None:
    """The model repeats the whole answer, a letter in each event, and the join holds all of it back."""
    text = "".join(f"The light held for night {number}, and nobody came. " for number in range(30))
    run = KeptAnswer([*text, REST, STOP], breaks=range(1, len(text)))
    job = job_over({"a": says(text, CUT), "b": lambda ask: run.begin()}, ANCHORED)
    events = await read(job)
    assert text_in(events) == text + REST
    assert run.reads == len(text) - 1
    (switched,) = [event for event in events if isinstance(event, StreamSwitched)]
    assert (switched.rung, switched.seam) == ("anchored", "restart")


async def test_a_pass_goes_back_if_a_provider_fails_to_say_what_it_offers() -> None:
    class Broken(Scripted):
        def rung(self, model: str, request: TaskRequest) -> Rung | None:
            raise ZeroDivisionError("a bug")

    passes: list[str] = []

    class Counting(NoAdmission):
        async def enter(self, target: Target, left: float | None) -> Pass | LLMDispatcherError:
            passes.append("entered")
            return self

        def leave(self) -> None:
            passes.append("left")

    with pytest.raises(ZeroDivisionError):
        await read(job_over({"a": Broken(says("Hi", STOP))}, admission=Counting()))
    assert passes == ["entered", "left"]
