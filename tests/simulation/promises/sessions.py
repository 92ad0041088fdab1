"""Sessions: whatever ends a stream, its session is whole and usable, and has each complete turn once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llm_dispatcher._serving.history import check_pairs
from llm_dispatcher.exceptions import InvalidRequestError
from llm_dispatcher.tasks import Message
from tests.simulation.promises.kit import everyone, fail, outcome_of
from tests.simulation.promises.matching import is_question, of_reading
from tests.simulation.record import Reading, Run


def every_session_is_whole_at_the_end(run: Run) -> None:
    """A session that is read from its file after its readers have ended, in whatever way, has one result for each call,
    and turns that begin with a question.
    """
    for name, messages in run.last.sessions.items():
        try:
            check_pairs(messages)
        except InvalidRequestError as error:
            fail(f"the session {name}", "calls with their results", error.message)
        if messages and not is_question(messages[0]):
            fail(f"the session {name}", "a question as its first message", messages[0])


def a_complete_turn_is_in_its_session_once(run: Run) -> None:
    """What a reader has got as a complete answer is in the stored session, once and in the order of the questions,
    also if its process was killed after that. A question is in the session at most as often as it was asked.
    """
    for name, messages in run.last.sessions.items():
        asked = [each for each in run.readings if each.plan.session == name]
        turns = _turns(messages)
        counts = Counter(question for question, _ in turns)
        for question, count in counts.items():
            readers = sum(question.startswith(each.question) for each in asked)
            if count > readers:
                fail(f"the session {name}", f"{question!r} at most {readers} times", count)
        complete = sorted((each for each in asked if _is_complete(each)), key=lambda each: each.began_at)
        places = [_place(each, turns) for each in complete]
        for each, place in zip(complete, places, strict=True):
            if place is None:
                fail(each, f"its turn is in the session {name}: {each.text!r}", [text for _, text in turns])
        known = [place for place in places if place is not None]
        begins, questions = {each.began_at for each in complete}, {each.question for each in asked}
        are_apart = len(begins) == len(complete) and len(questions) == len(asked)
        if are_apart and known != sorted(known):
            fail(f"the session {name}", "its turns in the order in which they began", [turns[at][0] for at in known])


def a_turn_knows_the_turns_before_it(run: Run) -> None:
    """A request of a session has the complete turns that had ended before its reader began."""
    for reading in everyone(run):
        sent = of_reading(run, reading)
        if reading.plan.session is None or not sent:
            continue
        turns = _turns(sent[0].served.request.conversation)
        for other in run.readings:
            is_before = other.plan.session == reading.plan.session and _end(other) < reading.began_at
            if is_before and _is_complete(other) and _place(other, turns) is None:
                fail(reading, f"a request with the turn of {other.name}", [question for question, _ in turns])


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_complete(reading: Reading) -> bool:
    is_whole = reading.response is not None and reading.response.finish_reason == "stop"
    return outcome_of(reading) == "completed" and is_whole


def _end(reading: Reading) -> float:
    return float("inf") if reading.ended_at is None else reading.ended_at


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Each question with the text of all messages of the assistant up to the next one."""
    turns: list[tuple[str, str]] = []
    for message in messages:
        if is_question(message):
            turns.append((message.text, ""))
        elif message.role == "assistant" and turns:
            turns[-1] = (turns[-1][0], turns[-1][1] + message.text)
    return turns


def _place(reading: Reading, turns: Sequence[tuple[str, str]]) -> int | None:
    """Where the turn of a reader is."""
    return next(
        (
            at
            for at, (question, text) in enumerate(turns)
            if question.startswith(reading.question) and text == reading.text
        ),
        None,
    )
