"""The text of one stream so far, and the rule for a reset.

The loop has a transcript of the text that it has sent. The account of each reader has a transcript of the text that
this reader got. The two differ while a buffer holds text back, and a shared stream has one loop and many readers. Only
the task that runs the loop, or reads the stream, writes to its transcript. The rule for a reset is written here, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from ..events import Event, StreamReset, TextDelta, ToolCall


class Transcript:
    """The text and the tool calls of one stream.

    `pieces` are the chunks of text, `characters` is their length together. A reset takes back both, and the tool calls.
    `chunks` counts all chunks of the stream, also those that a reset took back, because `TextDelta.index` keeps
    counting.
    """

    __slots__ = ("characters", "chunks", "pieces", "tool_calls")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.tool_calls: list[ToolCall] = []
        self.characters: int = 0
        self.chunks: int = 0

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """The transcript of these events."""
        transcript = cls()
        for event in events:
            if isinstance(event, TextDelta):
                transcript.add(event.text)
            else:
                transcript.take(event)
        return transcript

    @property
    def text(self) -> str:
        """The text, without the part that a reset took back."""
        return "".join(self.pieces)

    def add(self, text: str) -> None:
        """Add a chunk of text."""
        self.pieces.append(text)
        self.characters += len(text)
        self.chunks += 1

    def take(self, event: Event) -> None:
        """Apply an event that is not a chunk of text."""
        match event:
            case ToolCall():
                self.tool_calls.append(event)
            case StreamReset():
                self.reset()
            case _:
                pass

    def reset(self) -> None:
        """The answer begins again: take back its text and its tool calls."""
        self.pieces.clear()
        self.tool_calls.clear()
        self.characters = 0
