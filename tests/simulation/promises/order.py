"""Events come in legal order, with numbers and one end; callbacks and progress follow them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from llm_dispatcher.events import (
    _LETTERS,
    Event,
    ReasoningDelta,
    StreamCancelled,
    StreamCompleted,
    StreamFailed,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolResult,
    check_order,
)
from tests.simulation.promises.kit import (
    ENDS,
    end_of,
    everyone,
    fail,
    finished,
    has_body,
    missed,
    outcome_of,
    ran_to_its_end,
)
from tests.simulation.record import Reading, Run

_BEGUN: Final = re.compile(r"(?:F|X|Sc*(?:id*w?r?Sc*)*(?:t+Sc*(?:id*w?r?Sc*)*)*(?:id*w?r?|t+)?)?")
"""A beginning of a legal stream that has not ended."""


def events_are_in_legal_order(run: Run) -> None:
    """What an observer saw of a stream that has ended is a whole stream in a legal order."""
    for reading in finished(run):
        if reading.watched and not missed(reading):
            _check_whole(reading, reading.watched)


def a_readers_events_are_in_legal_order(run: Run) -> None:
    """The events that a reader got are a whole stream in a legal order, or the beginning of one if it stopped."""
    for reading in everyone(run):
        if ran_to_its_end(reading) and reading.plan.way == "events":
            _check_whole(reading, reading.events)
        letters = "".join(_LETTERS[type(event)] for event in reading.events if not isinstance(event, ENDS))
        if not _BEGUN.fullmatch(letters):
            fail(reading, "the beginning of a legal stream", _names(reading.events))


def numbers_have_no_gap(run: Run) -> None:
    """Events are numbered from 0 without a gap, whatever vendors, buffers and caches have done to them."""
    for reading in everyone(run):
        for whose, events in (("its observer", reading.watched), ("it", reading.events)):
            numbers = [event.sequence for event in events]
            expected = list(range(len(numbers)))
            if whose == "its observer" and missed(reading) == 1 and outcome_of(reading) in ("left", "cancelled"):
                expected[-1:] = [len(numbers)]  # it was stopped in a callback, before its observer's turn
            if numbers != expected:
                fail(reading, f"{whose} gets events numbered {expected}", numbers)


def text_is_counted_from_0(run: Run) -> None:
    """`TextDelta.index` counts from 0 over the whole stream, across switches, resets and buffers."""
    for reading in everyone(run):
        for events in (reading.watched, reading.events):
            indexes = [event.index for event in events if isinstance(event, TextDelta)]
            if indexes != list(range(len(indexes))):
                fail(reading, "text deltas that count from 0 without a gap", indexes)


def a_stream_ends_once(run: Run) -> None:
    """Every stream that has ended has exactly one ending event, its last, and that fits how its reader ended."""
    for reading in finished(run):
        if not reading.watched and (has_body(reading) or outcome_of(reading) in ("left", "cancelled")):
            continue  # it was stopped before it asked for anything
        ends = [event for event in reading.watched if isinstance(event, ENDS)]
        if len(ends) != 1 or reading.watched[-1] is not ends[0]:
            fail(reading, "exactly one ending event, and nothing after it", _names(reading.watched))
        kinds: dict[str, type[Event]] = {"completed": StreamCompleted, "failed": StreamFailed}
        expected = kinds.get(outcome_of(reading), type(ends[0]))
        if type(ends[0]) is not expected and not has_body(reading):
            fail(reading, f"its stream ends with {expected.__name__}", type(ends[0]).__name__)


def callbacks_follow_the_events(run: Run) -> None:
    """Callbacks are called in the order of the events: the start once, each chunk, and one ending callback."""
    for reading in finished(run):
        if not reading.plan.has_callbacks or has_body(reading):
            continue
        expected = expected_callbacks(reading.watched)
        found = list(reading.callbacks)
        if missed(reading) == 1 and len(found) == len(expected) + 1:
            del found[-2]  # the callback in which it was stopped, whose event its observer did not see
        if found != expected:
            fail(reading, f"the callbacks {' '.join(expected)}", " ".join(reading.callbacks))


def a_body_calls_back_once_at_each_end(run: Run) -> None:
    """The callbacks of a body that holds the stream start at most once, and end exactly once, in the last call."""
    for reading in finished(run):
        if not reading.plan.has_callbacks or not has_body(reading):
            continue
        starts = [place for place, name in enumerate(reading.callbacks) if name == "on_stream_start"]
        ends = [place for place, name in enumerate(reading.callbacks) if name in ("on_stream_end", "on_error")]
        if not reading.callbacks and not reading.text and outcome_of(reading) in ("left", "cancelled"):
            continue  # it was stopped before it asked for anything
        if len(starts) > 1 or ends != [len(reading.callbacks) - 1]:
            fail(reading, "one start at most, and one ending callback, the last", " ".join(reading.callbacks))
        chunks = [place for place, name in enumerate(reading.callbacks) if name == "on_chunk_received"]
        if chunks and (not starts or starts[0] > chunks[0]):
            fail(reading, "on_stream_start before the first chunk", " ".join(reading.callbacks))


def expected_callbacks(events: Sequence[Event]) -> list[str]:
    """The callbacks that these events cause."""
    names: list[str] = []
    for event in events:
        match event:
            case StreamStarted() if "on_stream_start" not in names:
                names.append("on_stream_start")
            case TextDelta():
                names.append("on_chunk_received")
            case StreamSwitched():
                names.append("on_switch")
            case ReasoningDelta() if event.text:
                names.append("on_reasoning")
            case ToolCall():
                names.append("on_tool_call")
            case ToolResult():
                names.append("on_tool_result")
            case StreamCompleted() | StreamCancelled():
                names.append("on_stream_end")
            case StreamFailed():
                names.append("on_error")
            case _:
                pass
    return names


def progress_never_goes_back(run: Run) -> None:
    """Progress is between 0 and 100, never falls, and is 100 at the end of a complete answer and only there."""
    for reading in finished(run):
        progress = reading.progress
        if not reading.plan.has_progress or not progress:
            continue
        if progress != sorted(progress) or progress[0] < 0 or progress[-1] > 100:
            fail(reading, "progress from 0 to 100 that never falls", progress)
        # A reader of text gets no item after the end.
        is_whole = has_the_end(reading) and reading.plan.way != "text"
        if outcome_of(reading) == "cancelled":  # perhaps before it got the last item of an answer that was complete
            is_whole = is_whole and progress[-1] == 100.0
        if is_whole and progress[-1] != 100.0:
            fail(reading, "progress 100 at the end of a complete answer", progress[-1])
        before = progress[:-1] if is_whole else progress
        if any(step >= 100.0 for step in before):
            fail(reading, "progress below 100 before the end of a complete answer", progress)


def has_the_end(reading: Reading) -> bool:
    """Whether the answer is complete and the reader has got its last item."""
    reason = None if reading.response is None else reading.response.finish_reason
    return reason not in (None, "cancelled") and reading.error is None


def _check_whole(reading: Reading, events: Sequence[Event]) -> None:
    try:
        check_order(events)
    except ValueError as error:
        fail(reading, "a whole stream in a legal order", str(error))
    if end_of(events) is None:
        fail(reading, "an ending event", _names(events))


def _names(events: Sequence[object]) -> str:
    return " ".join(type(event).__name__.removeprefix("Stream") for event in events) or "none"
