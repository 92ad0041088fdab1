"""Recording a stream and playing it back. Only whole answers of one model are recorded."""

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
"""How a recording is played: at once, or at this many characters per second."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[list[Event]]] = msgspec.json.Decoder(list[Event])


def why_not_recorded(events: Sequence[Event], *, joined: bool) -> str | None:
    """Why a stream is not recorded; `None` if it is.

    A stream is recorded if it completed with the finish reason `stop`, called no tools, and came from one model. With
    `joined`, several attempts may have contributed to it.
    """
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


def encode_recording(events: Sequence[Event]) -> bytes:
    """The events as a store keeps them."""
    return _encoder.encode(events)


def decode_recording(recording: bytes) -> list[Event]:
    """The recorded events, with `cached=True` and cost 0."""
    return [as_cached(event) for event in _decoder.decode(recording)]


async def play(events: Sequence[Event], replay: Replay) -> AsyncGenerator[Event, None]:
    """The events in the chunks in which they were recorded."""
    for event in events:
        if replay != "instant" and type(event) is TextDelta:
            await asyncio.sleep(len(event.text) / replay)
        yield event
