"""Recording a stream and playing it back. Only whole answers of one model are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import zip_longest
from math import inf
from typing import Final, Literal, TypeAlias

import msgspec

from .._policy import BODY
from .._upstream import Deadline
from ..events import (
    Event,
    StreamCompleted,
    StreamInterrupted,
    StreamStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from ..streaming._shared import as_cached, timeout_error

Replay: TypeAlias = Literal["instant"] | float
"""How a recording is played: at once, or at this many characters per second."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[list[Event]]] = msgspec.json.Decoder(list[Event])


def why_not_recorded(events: Sequence[Event], *, joined: bool) -> str | None:
    """Why a stream is not recorded; `None` if it is.

    A stream is recorded if it completed with the finish reason `stop`, called no tools, and came from one model. With
    `joined`, several answers may have contributed to it. Readings of one run that its vendor keeps are one answer.
    """
    last = events[-1] if events else None
    if not isinstance(last, StreamCompleted):
        return "broken"
    if last.finish_reason != "stop":
        return last.finish_reason
    if not last.text:
        return "empty"
    begun = False
    for event in events:
        match event:
            case ToolCall() | ToolCallDelta() | ToolResult():
                return "tools"
            case StreamStarted() if event.target.provider == BODY:
                return "body"
            case StreamStarted() if begun and event.rung != "reattached" and not joined:
                return "joined"
            case StreamStarted():
                begun = True
            case _:
                pass
    return None


def encode_recording(events: Sequence[Event]) -> bytes:
    """The events as a store keeps them: without the breaks after which the same run was read on."""
    return _encoder.encode(list(_without_readings_on(events)))


def _without_readings_on(events: Sequence[Event]) -> Iterator[Event]:
    for event, after in zip_longest(events, events[1:]):
        is_break = isinstance(event, StreamInterrupted) and _reads_on(after)
        if not is_break and not _reads_on(event):
            yield event


def _reads_on(event: Event | None) -> bool:
    return isinstance(event, StreamStarted) and event.rung == "reattached"


def decode_recording(recording: bytes) -> list[Event]:
    """The recorded events, with `cached=True` and cost 0."""
    return [as_cached(event) for event in _decoder.decode(recording)]


async def play(
    events: Sequence[Event], replay: Replay, deadline: Deadline | None = None
) -> AsyncGenerator[Event, None]:
    """The events in the chunks in which they were recorded.

    The deadline ends only a wait. What needs no wait is played also after it, as a stream does with what has arrived.

    Raises:
        RequestTimeoutError: The deadline has passed, and the next chunk is not due.
    """
    for place, event in enumerate(events):
        if replay != "instant" and type(event) is TextDelta:
            seconds = len(event.text) / replay
            left = inf if deadline is None else max(0.0, deadline.left)
            await asyncio.sleep(min(seconds, left))
            if deadline is not None and seconds > left:
                raise timeout_error(deadline, events[:place], first=False)
        yield event
