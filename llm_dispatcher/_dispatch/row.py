"""The row of an attempt that is under way: what its pieces have told so far."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from sys import maxsize
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from .._join.join import Join
from .._redaction import loggable_id
from .._usage import Usage
from ..events import Attempt, ProviderEvent, ReasoningDelta, Rung, Seam, ToolCall, ToolCallDelta, UsageReport
from ..exceptions import LLMDispatcherError
from ..notices import Notify, UsageReportRejected
from ..provider import Finished, Handover, KeptRun, Opened, RawEvent, Run, ServedBy, TokenTrail
from ..tasks import MOST_TOKENS, Target, TaskRequest
from .flow import Content, OtherContent

Metadata: TypeAlias = Opened | RawEvent | UsageReport | Finished | KeptRun | TokenTrail | Handover | ServedBy
"""What a vendor says beside the answer."""

REFUSAL: Final = "refusal"
"""The kind of the vendors' events in which a model says why it refuses."""

MOST_EMPTY_READINGS: Final = 16
"""So many readings of a run may follow each other without content. Between two pieces, a vendor has fewer events."""


class Row:
    """One attempt under way. `others` is how many targets can still be asked after this one, `successors` how many of
    them could continue its answer.

    `output` is everything that the model has written, also what the reader never sees. `delivered` counts the
    characters that the reader has; both are complete after `Course.end`. `is_shown` is whether the reader has seen
    anything of this attempt, `reader_left` whether the reader has left the stream. With `passes`, all its text goes
    to the reader as it is. `held` are the events that wait until the attempt is shown. `waiting` is what has come since
    the first whole tool call, which the reader gets when the answer is complete.

    `rung` and `proof` say how this attempt continues a broken answer. `run` is the run that the vendor keeps, which was
    read from `run_began_at` on; `run_usage` is what earlier attempts were charged for it. `empty_readings` counts the
    readings of this run that have brought no content, since the last one that brought some. `trail` has the token ids.
    The first `tokens_before` of them belong to earlier attempts; `tokens` counts those of this one, once it is over.
    `open_calls` are the tool calls of which the reader has seen anything. `request` is what the target was asked; for
    token ids, it is the request that began their answer. `is_new_answer` says that the reader was told to discard what
    it had when this attempt was first shown.

    If `holds_refusals`, the events in which the model refuses wait in `refusals`, because another target may be asked.
    `hops` are the rows of the models before a `Handover` of the vendor. They are in the course already, but reach the
    ledger with this row, because the vendor reports their usage at the end.

    Only the task that reads the attempt writes to its row.
    """

    def __init__(self, target: Target, number: int, now: float, others: int = 0, successors: int = 0) -> None:
        self.target, self.number = target, number
        self.others, self.successors = others, successors
        self.began = self.ended = now
        self.opened = False
        self.request_id: str | None = None
        self.first_token_at: float | None = None
        self.raw: dict[str, Any] | None = None
        self.usage_raw: dict[str, Any] | None = None
        self.finished_raw: dict[str, Any] | None = None
        self.output: list[str] = []
        self.has_tool_calls = self.has_whole_call = self.has_shown_a_tool_call = self.usage_is_final = False
        self.open_calls: dict[str, str] = {}
        self.hops: list[Row] = []
        self.refusals: list[ProviderEvent] = []
        self.usage: Usage | None = None
        self.finished: Finished | None = None
        self.error: LLMDispatcherError | None = None
        self.join: Join | None = None
        self.rung: Rung | None = None
        self.proof: str | None = None
        self.run: Run | None = None
        self.run_began_at: str | None = None
        self.run_usage = Usage()
        self.request: TaskRequest | None = None
        self.trail: TokenTrail | None = None
        self.tokens_before = self.delivered = self.empty_readings = 0
        self.tokens: int | None = None
        self.held: list[OtherContent] = []
        self.waiting: list[Content] = []
        self.is_shown = self.passes = self.reader_left = self.is_new_answer = self.holds_refusals = False
        self._unseen: Row | None = None
        self._joined: tuple[Seam | None, int] = None, 0
        self.shown_from = 0
        """How many characters the reader had when this attempt was first shown."""
        self.unchanged_from = maxsize
        """The first piece of the transcript that is the model's own, unchanged. `output` has all before it."""

    def take(self, piece: Metadata | OtherContent, notify: Notify) -> OtherContent | Handover | None:
        """Take in a piece that is not text. Returns a handover, or what the reader sees, with the vendor's event."""
        match piece:
            case Opened():
                self.opened = True
                self.request_id = loggable_id(piece.request_id)
            case RawEvent():
                self.raw = piece.data
            case UsageReport():
                self.usage, self.usage_raw = _credible(piece.usage, self.target, notify), self.raw
            case Finished():
                self.finished, self.finished_raw = piece, self.raw
            case KeptRun():
                self.run = piece.run
            case TokenTrail():
                self.trail = piece
            case Handover():
                self.passes = False
                return piece
            case ServedBy():
                self._take_shares(piece, notify)
            case ProviderEvent() if self.holds_refusals and piece.kind == REFUSAL:
                self.refusals.append(piece if self.raw is None else replace(piece, raw=self.raw))
            case _:
                if isinstance(piece, ReasoningDelta):
                    self.output.append(piece.text)
                elif not isinstance(piece, ProviderEvent):
                    self.has_tool_calls = True
                    if isinstance(piece, ToolCall):
                        self.has_whole_call, self.passes = True, False
                return piece if self.raw is None else replace(piece, raw=self.raw)
        return None

    def _take_shares(self, piece: ServedBy, notify: Notify) -> None:
        """Whose the usage is. Without a handover in this answer, another model than the target's wrote all of it."""
        for hop, usage in zip(self.hops, piece.earlier, strict=False):
            if usage is not None:
                hop.usage = _credible(usage, hop.target, notify)
                hop.usage_is_final = hop.usage is not None
        if not self.hops:
            self.target = Target(self.target.provider, piece.model)

    def hand_over(self, target: Target, error: LLMDispatcherError, now: float) -> Row:
        """The vendor continues with this target. Returns a row with what the model before it has done, and begins anew.

        The earlier model keeps the text that was shown. The next model continues the text that was not shown yet, so
        it also takes over a join that has not seen enough of the text.
        """
        earlier, begun = copy(self), Row(target, self.number + 1, now, self.others, self.successors)
        earlier.error, earlier.ended, earlier.hops = error, now, []
        begun.opened, begun.request_id, begun.raw = self.opened, self.request_id, self.raw
        begun.request, begun.run, begun.run_began_at = self.request, self.run, self.run_began_at
        begun.hops, begun.holds_refusals = [*self.hops, earlier], self.holds_refusals
        if not self.is_shown:
            begun.rung, begun.proof, begun.join = self.rung, self.proof, self.join
            begun._unseen, begun._joined = self._unseen, self._joined
            begun.held = [event for event in self.held if not isinstance(event, ToolCallDelta)]
            earlier.join, earlier.held = None, []
        elif self.join is not None and self.join.is_watching:
            begun.join, begun._joined = self.join, (self.join.seam, len(self.join.trimmed))
        vars(self).update(vars(begun))
        return earlier

    def read_on(self, before: Row, charged: Sequence[Attempt]) -> None:
        """Take over from the attempt whose run this one reads on: what it held back, and what it had not finished.

        The vendor reports the usage of a run once, at its end. So what was `charged` for the attempts before, of which
        the last is the last in the ledger, is taken off the report.
        """
        self.rung, self.run = "reattached", before.run
        self.run_usage = Usage.sum((before.run_usage, *(each.usage for each in charged[-1:])))
        assert self.run is not None
        self.run_began_at = self.run.position
        self.empty_readings = before.empty_readings + 1 if before.first_token_at is None else 0
        self.proof = f"from {self.run.position}"
        self._unseen = None if before.is_shown else before._unseen or before
        self.join, self.held, self.waiting = before.join, before.held, before.waiting
        if self.join is not None:
            self._joined = self.join.seam, len(self.join.trimmed)
        self.open_calls, self.refusals = before.open_calls, before.refusals
        self.holds_refusals = self.holds_refusals or bool(self.refusals)
        self.has_tool_calls, self.has_whole_call = before.has_tool_calls, before.has_whole_call

    @property
    def has_news(self) -> bool:
        """Whether this attempt has read something of a run that the vendor keeps. Events without content are not enough
        for ever: else a vendor that sends nothing else would keep the stream until `total` fires.
        """
        has_content = self.first_token_at is not None or self.empty_readings < MOST_EMPTY_READINGS
        return self.run is not None and self.run.position != self.run_began_at and has_content

    @property
    def way(self) -> Rung | None:
        """How this attempt follows what the reader has. If it reads on a run of which nothing was shown, it follows in
        the way of that run's request.
        """
        return self.rung if self._unseen is None else self._unseen.way

    @property
    def seam(self) -> Seam | None:
        """How the text of this attempt was joined to the text before it; `None` if an earlier attempt did that."""
        return self.join.seam if self.join is not None and self._joined[0] is None else None

    @property
    def trimmed(self) -> str:
        """The text that the join has removed from this attempt."""
        return self.join.trimmed[self._joined[1] :] if self.join is not None else ""


def _credible(usage: Usage, target: Target, notify: Notify) -> Usage | None:
    """A vendor's report of its usage, or `None` if a count in it is impossible: then the ledger estimates instead.

    Every provider's report passes here, so nothing behind this has to handle a negative count or one of 400 digits.
    """
    counts = (
        usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cache_read_tokens,
        usage.cache_write_tokens, usage.cache_write_1h_tokens,
    )  # fmt: skip
    if all(0 <= count <= MOST_TOKENS for count in counts):
        return usage
    notify(UsageReportRejected(target, MOST_TOKENS))
    return None
