"""How far one stream has come: its attempts, its text, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import maxsize
from typing import TypeVar

from ..events import StreamStarted, TextDelta, ToolCall, ToolCallDelta, ToolCallDropped
from ..exceptions import LLMDispatcherError
from ..provider import Run
from ..streaming._transcript import Transcript
from ..tasks import Target
from .flow import OtherContent
from .keeper import Keeper
from .row import Row

Shown = TypeVar("Shown", bound=OtherContent | StreamStarted)


class Course:
    """One turn of one stream: the answer to one request, however many attempts it takes.

    `rows` are the attempts of this turn that are over. `transcript` and `failures` are those of the whole stream.
    `unproven` are the targets that were asked to continue and whose text was refused. `without_tokens` are those that
    did not take the token ids of the answer. `keepers` see to the runs that were not left yet. A stream that runs
    tools has several turns: the course of the next one is made with the course of the turn before, and goes on with
    its `TextDelta.index`. While the loop runs, only the loop writes to a course; between two turns, the stage that has
    made it adds the results of the tools to the transcript. The code that made it may read it at any time.
    """

    def __init__(self, earlier: Course | None = None) -> None:
        self.rows: list[Row] = []
        self.transcript: Transcript = Transcript() if earlier is None else earlier.transcript
        self.failures: list[LLMDispatcherError] = [] if earlier is None else earlier.failures
        self.unproven: set[Target] = set()
        self.without_tokens: set[Target] = set() if earlier is None else earlier.without_tokens
        self.keepers: list[Keeper] = []
        self.follows_content: bool = earlier is not None and (earlier.is_committed or earlier.follows_content)
        """Whether the reader has content of an earlier turn, which an answer to this turn's request does not repeat."""
        self._pieces_before = len(self.transcript.pieces)
        self._failures_before = len(self.failures)

    @property
    def text(self) -> str:
        """The text of this turn that the reader has."""
        return "".join(self.transcript.pieces[self._pieces_before :])

    @property
    def failures_of_turn(self) -> Sequence[LLMDispatcherError]:
        """What went wrong in this turn."""
        return self.failures[self._failures_before :]

    @property
    def answer_rows(self) -> Sequence[Row]:
        """The attempts whose content the reader has: those since the answer began again, if it did."""
        began = next((place for place in range(len(self.rows) - 1, 0, -1) if self.rows[place].is_new_answer), 0)
        return self.rows[began:]

    @property
    def is_committed(self) -> bool:
        """Whether the reader has content of this turn that cannot be taken back unseen."""
        return any(row.delivered or row.has_shown_a_tool_call for row in self.answer_rows)

    def is_committed_by(self, row: Row) -> bool:
        """Whether the reader has such content, that of an attempt under way included."""
        has_text = row.is_shown and self.transcript.characters > row.shown_from
        return self.is_committed or has_text or row.has_shown_a_tool_call

    @property
    def has_text(self) -> bool:
        """Whether the reader has any text of this stream, or content of an earlier turn."""
        return self.follows_content or self.transcript.chunks > 0

    @property
    def run(self) -> Run | None:
        """The run that the last attempt has read, if its vendor still keeps it."""
        run = self.rows[-1].run if self.rows else None
        return None if run is None or run.is_over else run

    @property
    def trail_row(self) -> Row | None:
        """The attempt with the token ids of the text of this turn, if they stand for exactly what the reader has.

        They do not if the last text was joined by an anchor: the model has seen other words than the reader.
        """
        last = next((row for row in reversed(self.answer_rows) if row.delivered), None)
        if last is None or last.rung == "anchored" or last.trimmed.strip():
            return None
        return last if last.trail is not None else None

    def drop_calls(self) -> Iterator[ToolCallDropped]:
        """The events that take back the tool calls of which the reader has seen fragments. Each comes once."""
        for row in self.rows:
            yield from [ToolCallDropped(id, name) for id, name in row.open_calls.items()]  # noqa: A001
            row.open_calls.clear()

    def deliver(self, text: str, row: Row) -> TextDelta:
        """The event that shows the reader some text of an attempt. The text counts as delivered from now on."""
        transcript = self.transcript
        index = transcript.chunks
        transcript.chunks = index + 1  # `Transcript.add`, written out: this is done for every chunk
        transcript.characters += len(text)
        transcript.pieces.append(text)
        return TextDelta(text, index, row.raw)

    def show(self, event: Shown, row: Row) -> Shown:
        """An event of an attempt that is not text, and that the reader gets now."""
        if isinstance(event, (ToolCallDelta, ToolCall)):
            row.has_shown_a_tool_call = True
            row.open_calls[event.id] = event.name
        self.transcript.take(event)
        return event

    def add_unchanged(self, row: Row) -> None:
        """Add the text of an attempt that was shown as it came to what its model has written."""
        row.output += self.transcript.pieces[row.unchanged_from :]
        row.unchanged_from = maxsize

    def end(self, row: Row) -> None:
        """End an attempt of this turn. Only now its row gets the text that it has delivered."""
        transcript = self.transcript
        if row.is_shown:
            row.delivered = transcript.characters - row.shown_from
            self.add_unchanged(row)
        if row.trail is not None:  # a later attempt may go on with the same trail
            row.tokens = len(row.trail.output) - row.tokens_before
        self.rows.append(row)
