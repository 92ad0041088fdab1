"""What of a stream is worth keeping, and playing it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from .._policy import BODY
from ..events import (
    Event,
    StreamCompleted,
    StreamInterrupted,
    StreamReset,
    StreamStarted,
    StreamSwitched,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from ..streaming._shared import as_cached

Replay: TypeAlias = Literal["instant"] | float
"""How a recording is played: at once, or at so many characters a second."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[list[Event]]] = msgspec.json.Decoder(list[Event])


def unfit(events: Sequence[Event], *, joined: bool) -> str | None:
    """Why a stream is not to be recorded; `None` if it was whole, of one vendor, and nothing but an answer."""
    last = events[-1] if events else None
    if not isinstance(last, StreamCompleted):
        return "broken"
    if last.finish_reason != "stop":
        return last.finish_reason
    if not last.text:
        return "empty"
    for event in events:
        match event:
            case ToolCall() | ToolCallDelta() | ToolResult():
                return "tools"
            case StreamStarted() if event.target.provider == BODY:
                return "body"
            case StreamInterrupted() | StreamSwitched() | StreamReset() if not joined:
                return "joined"
            case _:
                pass
    return None


def recorded(events: Sequence[Event]) -> bytes:
    """The events as they are kept."""
    return _encoder.encode(events)


def events_of(recording: bytes) -> list[Event]:
    """The events that were kept, as a replay shows them."""
    return [as_cached(event) for event in _decoder.decode(recording)]


async def replayed(events: Sequence[Event], replay: Replay) -> AsyncGenerator[Event, None]:
    """The events in the chunks that they came in."""
    for event in events:
        if replay != "instant" and type(event) is TextDelta:
            await asyncio.sleep(len(event.text) / replay)
        yield event
