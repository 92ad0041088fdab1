"""`turns_of`: the messages that a stream adds to its conversation."""

from __future__ import annotations

from typing import Final

import msgspec

from ..events import ReasoningDelta, StreamStarted, ToolCall, ToolResult
from ..tasks import Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from ._transcript import Mark, Transcript

BREAK: Final = "\n\n"
"""What a reader of text gets between two turns. It is no part of a message."""


def turns_of(transcript: Transcript) -> tuple[Message, ...]:
    """The turns of the model, each followed by one message with the results of its calls. A turn without content is
    left out.

    Reasoning carries the names of the provider and the model that wrote it, because only they take its signature. An
    attempt that begins its turn anew replaces the reasoning of those before it.
    """
    turns, at = _Turns(), 0
    for place, event in transcript.marks:
        turns.add_text("".join(transcript.pieces[at:place]))
        turns.take(event)
        at = place
    turns.add_text("".join(transcript.pieces[at:]))
    turns.end_turn()
    turns.end_results()
    return tuple(turns.messages)


class _Turns:
    """The messages so far, the parts of the turn under way, and the results that are not in a message yet."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._parts: list[Part] = []
        self._reasoning: list[str] = []
        self._results: list[ToolResultPart] = []
        self._provider: str | None = None
        self._model: str | None = None

    def add_text(self, text: str) -> None:
        if not text:
            return
        self._end_reasoning()
        last = self._parts[-1] if self._parts else None
        if isinstance(last, TextPart):
            self._parts[-1] = TextPart(last.text + text)
        else:
            self._add(TextPart(text))

    def take(self, event: Mark) -> None:
        match event:
            case ToolResult():
                self._take_result(event)
                return
            case StreamStarted():
                self._provider, self._model = event.target.provider, event.target.model
                if event.rung in (None, "restarted"):  # nothing of the attempts before it stands
                    self._parts.clear()
                    self._reasoning.clear()
            case ReasoningDelta():
                self._reasoning.append(event.text)
                if event.signature is not None:
                    self._end_reasoning(event.signature)
            case ToolCall():
                self._end_reasoning()
                self._add(ToolCallPart(event.id, event.name, _arguments(event)))

    def _take_result(self, event: ToolResult) -> None:
        if not self._results:
            self._remove_break()
            self.end_turn()
        result = event.result if event.error is None else event.error
        self._results.append(ToolResultPart(event.id, event.name, result or "", event.error is not None))

    def _remove_break(self) -> None:
        """Remove the break that follows the last call, for readers of text."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, TextPart):
            text = last.text.removesuffix(BREAK)
            self._parts[-1:] = [TextPart(text)] if text else []

    def end_turn(self) -> None:
        """The turn of the model is over."""
        self._end_reasoning()
        if self._parts:
            self.messages.append(Message("assistant", self._parts))
            self._parts = []

    def end_results(self) -> None:
        """All results of a turn have come. They stand in the order of its calls."""
        if not self._results:
            return
        turn = self.messages[-1].parts if self.messages else ()
        order = {part.id: place for place, part in enumerate(turn) if isinstance(part, ToolCallPart)}
        self._results.sort(key=lambda result: order.get(result.id, len(order)))
        self.messages.append(Message("tool", self._results))
        self._results = []

    def _end_reasoning(self, signature: str | None = None) -> None:
        text = "".join(self._reasoning)
        self._reasoning.clear()
        if text or signature is not None:
            self._add(ReasoningPart(text, signature, self._provider, self._model))

    def _add(self, part: Part) -> None:
        self.end_results()
        self._parts.append(part)


def _arguments(call: ToolCall) -> str:
    """The arguments of a call as the text of a JSON object, which is all that vendors take back."""
    if call.arguments is None:
        return msgspec.json.encode({"invalid_json": call.raw_arguments}).decode()
    return call.raw_arguments if call.raw_arguments.strip() else "{}"
