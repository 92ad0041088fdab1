"""What was delivered is the delivered text and then the rest, once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from llm_dispatcher.events import (
    StreamCancelled,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolResult,
)
from llm_dispatcher.exceptions import RequestTimeoutError, StreamingError
from tests.simulation.promises.kit import (
    ENDS,
    Segment,
    attempts_of,
    everyone,
    fail,
    finished,
    has_body,
    is_free,
    may_share,
    missed,
    outcome_of,
    ran_to_its_end,
    resilience_of,
    segments,
    text_of,
)
from tests.simulation.promises.matching import answers, of_reading
from tests.simulation.record import Reading, Run

WHOLE: Final = ("stop", "tool_calls")
"""The finish reasons of an answer that its model has brought to its end."""
_MARKS: Final = re.compile(r"\n?[<>]+\n?")
"""Marks as those of ours, which no answer has."""
WAITING: Final = ("await", "collect")
"""The ways to read that show nothing before the end."""


def a_complete_answer_is_the_whole_answer(run: Run) -> None:
    """A reader whose answer is complete has exactly the whole answer of honest vendors, or, if a limit or a filter
    ended it, a beginning of it.
    """
    for reading in finished(run):
        if outcome_of(reading) != "completed" or not _is_seamless(run, reading):
            continue
        reason = reading.response.finish_reason if reading.response is not None else None
        if reason in WHOLE and reading.text != reading.truth:
            fail(reading, f"the whole answer {reading.truth!r}", _apart(reading.truth, reading.text))
        if not reading.truth.startswith(reading.text):
            fail(reading, f"a beginning of {reading.truth!r}", _apart(reading.truth, reading.text))


def an_incomplete_answer_is_its_beginning(run: Run) -> None:
    """A reader whose answer is not complete has a beginning of the answer: nothing repeated, lost or changed."""
    for reading in everyone(run):
        if outcome_of(reading) == "completed" or not _is_seamless(run, reading):
            continue
        for where, text in (("its text", reading.text), ("its stream", text_of(reading.watched))):
            if not reading.truth.startswith(text):
                fail(reading, f"{where} is a beginning of {reading.truth!r}", _apart(reading.truth, text))


def an_error_holds_the_delivered_text(run: Run) -> None:
    """The error of a broken answer holds exactly the delivered text; any other error means that there is none."""
    for reading in finished(run):
        if outcome_of(reading) != "failed" or reading.error is None or missed(reading):
            continue
        shown = text_of(reading.watched)
        if isinstance(reading.error, StreamingError):
            if reading.error.partial != shown:
                fail(reading, f"error.partial is the delivered text {shown!r}", reading.error.partial)
        elif shown:
            fail(reading, "a StreamingError, because text was delivered", repr(reading.error))


def every_view_shows_the_same_text(run: Run) -> None:
    """Chunks, events, `response.text`, `StreamCompleted.text` and what an observer saw are the same text."""
    for reading in everyone(run):
        shown = text_of(reading.watched)
        response = "" if reading.response is None else reading.response.text
        if not missed(reading) and outcome_of(reading) != "open" and response != shown and not has_body(reading):
            fail(reading, f"response.text is the text of its events {shown!r}", response)
        for event in (*reading.watched, *reading.events):
            whole = reading.events if event in reading.events else reading.watched
            if isinstance(event, StreamCompleted) and event.text != text_of(whole):
                fail(reading, f"StreamCompleted.text is the text of its deltas {text_of(whole)!r}", event.text)
        if outcome_of(reading) == "completed" and reading.text != response:
            fail(reading, f"its text is response.text {response!r}", reading.text)
        if reading.plan.way == "events" and reading.text != text_of(reading.events):
            fail(reading, f"its text is that of its events {text_of(reading.events)!r}", reading.text)


def a_reader_lacks_at_most_the_last_event(run: Run) -> None:
    """A reader has got everything that its observer saw, except for the one event during which it was stopped."""
    for reading in everyone(run):
        if has_body(reading):
            continue
        before_end = [event for event in reading.watched if not isinstance(event, StreamCancelled)]
        if reading.plan.way == "events":
            behind = len(before_end) - len(reading.events)
            if before_end[: len(reading.events)] != reading.events or behind > (not ran_to_its_end(reading)):
                fail(reading, f"the events that its observer saw: {_names(before_end)}", _names(reading.events))
        elif reading.plan.way not in WAITING:
            texts = [text_of(before_end)]
            last = before_end[-1] if before_end else None
            if not ran_to_its_end(reading) and isinstance(last, TextDelta):
                texts.append(text_of(before_end[:-1]))
            if reading.text not in texts:
                fail(reading, f"the text that its observer saw: {texts[0]!r}", reading.text)


def nothing_is_shown_to_a_reader_of_the_whole(run: Run) -> None:
    """A reader that awaits the whole answer gets it complete or not at all. Only one whose stream another task closes
    gets the text so far.
    """
    for reading in finished(run):
        is_closed = outcome_of(reading) == "left" and reading.plan.closed_after is not None
        if reading.plan.way in WAITING and outcome_of(reading) != "completed" and reading.text and not is_closed:
            fail(reading, "no text from an answer that was not complete", reading.text)


def attempts_add_up_to_the_text(run: Run) -> None:
    """Each row of the ledger counts the characters that its attempt has delivered, and together they are the text.

    The last attempt has no row if its process was killed while it went on for another reader.
    """
    for reading in finished(run):
        if is_free(reading) or has_body(reading) or missed(reading):
            continue
        parts = {part.number: part for part in segments(reading.watched)}
        numbers = [row.number for row in attempts_of(reading)]
        if numbers != list(range(1, len(numbers) + 1)):
            fail(reading, "rows that count from 1 without a gap", numbers)
        for row in attempts_of(reading):
            shown = len(parts[row.number].text) if row.number in parts else 0
            if row.delivered < shown or (_has_read_all(reading) and row.delivered != shown):
                fail(reading, f"attempt {row.number} has delivered {shown} characters", row.delivered)
        is_under_way = any(request.row is None for request in of_reading(run, reading))
        extra = set(parts) - set(numbers) - ({len(numbers) + 1} if is_under_way else set())
        if extra:
            fail(reading, "a row for each attempt that was shown", f"none for the attempts {sorted(extra)}")
        valid = sum(row.delivered for row in attempts_of(reading) if not _is_taken_back(row.number, parts))
        if _has_read_all(reading) and valid != len(text_of(reading.watched)):
            fail(reading, f"rows that add up to {len(text_of(reading.watched))} characters", valid)


def interruptions_count_the_delivered_text(run: Run) -> None:
    """`StreamInterrupted.delivered` is the number of characters that the reader has at that moment."""
    for reading in everyone(run):
        for place, event in enumerate(reading.watched):
            if isinstance(event, StreamInterrupted) and not missed(reading):
                has = len(text_of(reading.watched[:place]))
                if event.delivered != has:
                    fail(reading, f"an interruption after {has} characters", event.delivered)


def only_readers_that_can_discard_get_a_reset(run: Run) -> None:
    """An answer begins again only if `on_break` says so, and only for readers that can take back what they have. A
    reader of the whole has nothing before the end, so for it an answer may begin again that cannot be continued.
    """
    for reading in everyone(run):
        if not any(isinstance(event, StreamReset) for event in reading.watched):
            continue
        policies = [policy for process in run.processes for _, policy in process.policies]
        chosen = reading.plan.options.get("on_break")
        ways = {chosen} if chosen else {resilience_of(each, reading, None).on_break for each in policies}
        allowed = "restart" in ways or ("continue" in ways and reading.plan.way in WAITING)
        if not allowed or (reading.plan.way in ("text", "metadata") and not has_body(reading)):
            fail(reading, "no StreamReset", f"one, read by {reading.plan.way} with on_break={chosen}")


def the_seam_is_told(run: Run) -> None:
    """A `StreamSwitched` names the two targets, the seam and the cut text that the ledger has as well."""
    for reading in finished(run):
        if has_body(reading) or missed(reading) or is_free(reading):
            continue
        rows = {row.number: row for row in attempts_of(reading)}
        parts = segments(reading.watched)
        switched = [event for event in reading.watched if isinstance(event, StreamSwitched)]
        changes = [(one, two) for one, two in pairwise(parts) if one.target != two.target and one.turn == two.turn]
        if len(switched) != len(changes) + _is_open_ended(reading):
            fail(reading, f"{len(changes)} StreamSwitched, one for each other target", len(switched))
        for event, (one, two) in zip(switched, changes, strict=False):
            row = rows.get(two.number)
            if row is None:
                continue  # `attempts_add_up_to_the_text` says so
            told = (event.from_target, event.to_target, event.seam, event.trimmed)
            expected = (one.target, two.target, row.seam or "plain", row.trimmed)
            if told != expected:
                fail(reading, f"a switch {expected}", told)


def a_vendors_text_is_cut_only_at_its_head(run: Run) -> None:
    """What a reader has of an attempt is what its vendor wrote, without the repetition that was cut off at its head,
    and without marks of ours: no other character is lost, changed or moved. The attempts that read one run are one.
    """
    for answer in answers(run):
        last, reading = answer[-1], answer[-1].reading
        if last.row is None or missed(reading):
            continue
        numbers = [each.row.number for each in answer if each.row is not None]
        trimmed = "".join(each.row.trimmed for each in answer if each.row is not None)
        wrote = "".join(piece for each in answer for piece in each.served.pieces if isinstance(piece, str))
        if not wrote.startswith(trimmed):
            fail(reading, f"the cut text of attempts {numbers} is the head of {wrote!r}", trimmed)
        rest = _MARKS.sub("", wrote[len(trimmed) :])
        delivered = sum(each.row.delivered for each in answer if each.row is not None)
        if delivered > len(rest) or (last.row.outcome == "completed" and delivered != len(rest)):
            fail(reading, f"attempts {numbers} deliver the {len(rest)} characters after the cut", delivered)
        shown = "".join(part.text for part in segments(reading.watched) if part.number in numbers)
        if not rest.startswith(shown):
            fail(reading, f"attempts {numbers} show a beginning of {rest!r}", shown)


def a_whole_call_is_shown_with_its_answer(run: Run) -> None:
    """After a whole tool call was shown, its turn does not break, and no other attempt goes on with it."""
    for reading in everyone(run):
        has_call = False
        for event in reading.watched:
            if has_call and isinstance(event, (StreamInterrupted, StreamStarted)):
                fail(reading, "no break after a tool call was shown", event)
            has_call = isinstance(event, ToolCall) or (has_call and not isinstance(event, ToolResult))


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _has_read_all(reading: Reading) -> bool:
    """Whether everything that was delivered upstream has reached the reader.

    A reader whose own time is over, while others read the same stream on, has not.
    """
    if outcome_of(reading) == "completed":
        return True
    others_may_read_on = may_share(reading) and isinstance(reading.error, RequestTimeoutError)
    return outcome_of(reading) == "failed" and not others_may_read_on


def _is_taken_back(number: int, parts: dict[int, Segment]) -> bool:
    return number in parts and parts[number].is_taken_back


def _is_open_ended(reading: Reading) -> int:
    """1 if the reader was stopped at the very moment of a switch, before the next target's `StreamStarted`."""
    for event in reversed(reading.watched):
        if not isinstance(event, (StreamReset, *ENDS)):
            return int(isinstance(event, StreamSwitched))
    return 0


def _is_seamless(run: Run, reading: Reading) -> bool:
    """Whether every continuation has proved itself. With `on_unproven: show`, one that has not may be shown."""
    askers = [reading] if attempts_of(reading) else [each for each in run.readings if each.question == reading.question]
    return not any(row.proof == "unproven" for asker in askers for row in attempts_of(asker))


def _apart(expected: str, found: str) -> str:
    """Where two texts part."""
    same = next((at for at, (one, two) in enumerate(zip(expected, found, strict=False)) if one != two), None)
    at = min(len(expected), len(found)) if same is None else same
    return f"{found!r}, which parts after {at} characters, at {found[max(0, at - 20) : at + 20]!r}"


def _names(events: Sequence[object]) -> str:
    return " ".join(type(event).__name__.removeprefix("Stream") for event in events) or "none"
