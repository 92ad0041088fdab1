"""What one stream has said so far, and the rule for a reset.

The loop has a transcript of what it has sent. The account of each reader has a transcript of what this reader got. The
two differ while a buffer holds text back, and a shared stream has one loop and many readers. Only the task that runs
the loop, or reads the stream, writes to its transcript. The rule for a reset is written here, once.

A chunk of text is a piece and nothing more, because it comes thousands of times. Everything else that belongs to the
conversation is a mark, with its place among the pieces, so that `turns_of` can make messages of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, TypeAlias

from ..events import Event, ReasoningDelta, StreamReset, StreamStarted, TextDelta, ToolCall, ToolResult

Mark: TypeAlias = StreamStarted | ReasoningDelta | ToolCall | ToolResult
"""An event beside the text that says something of the conversation."""


class Transcript:
    """The text of one stream, and its marks.

    `pieces` are the chunks of text, `characters` is their length together. `marks` are the other events of the
    conversation, each with the number of pieces before it. A reset takes back what came after the last result of a
    tool. `chunks` counts all chunks of the stream, also those that a reset took back, because `TextDelta.index` keeps
    counting.
    """

    __slots__ = ("characters", "chunks", "marks", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.marks: list[tuple[int, Mark]] = []
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

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, without those that a reset took back."""
        return tuple([event for _, event in self.marks if isinstance(event, ToolCall)])

    def add(self, text: str) -> None:
        """Add a chunk of text."""
        self.pieces.append(text)
        self.characters += len(text)
        self.chunks += 1

    def take(self, event: Event) -> None:
        """Apply an event that is not a chunk of text."""
        match event:
            case StreamStarted() | ReasoningDelta() | ToolCall() | ToolResult():
                self.marks.append((len(self.pieces), event))
            case StreamReset():
                self.reset()
            case _:
                pass

    def reset(self) -> None:
        """The turn begins again: take back what came after the last result of a tool, or all."""
        marks = self.marks
        kept = next((at for at in range(len(marks), 0, -1) if isinstance(marks[at - 1][1], ToolResult)), 0)
        del self.pieces[marks[kept - 1][0] if kept else 0 :]
        del marks[kept:]
        self.characters = sum(map(len, self.pieces))
