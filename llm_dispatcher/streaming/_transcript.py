"""What one stream has said so far, and the one rule for what a reset takes back.

Two places follow a stream. The loop knows what it has sent, and the account of each reader knows what this reader has
seen. The two differ while a buffer holds text back, and a shared stream has one loop and many readers. So each of them
has a `Transcript` of its own; the rule for a reset stands here, once. Only the task that follows the stream writes to
its transcript.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from ..events import Event, StreamReset, TextDelta, ToolCall


class Transcript:
    """The text and the tool calls of one stream.

    `pieces` are the chunks of text, `characters` is their length together. A reset takes back both, and the tool calls.
    `chunks` counts all chunks of the stream, also those that a reset took back, because `TextDelta.index` goes on.
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
        """The text that stands, without what was taken back."""
        return "".join(self.pieces)

    def add(self, text: str) -> None:
        """Add a chunk of text."""
        self.pieces.append(text)
        self.characters += len(text)
        self.chunks += 1

    def take(self, event: Event) -> None:
        """Take in an event that is not a chunk of text."""
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
