"""The row of an attempt that is under way: what its pieces have told so far."""

from __future__ import annotations

from sys import maxsize
from typing import Any, TypeAlias

from msgspec.structs import replace

from .._join.join import Join
from .._redaction import loggable_id
from .._usage import Usage
from ..events import ProviderEvent, ReasoningDelta, Seam, ToolCall, ToolCallDelta, UsageReport
from ..exceptions import LLMDispatcherError
from ..notices import Notify, UsageReportRejected
from ..provider import Finished, Handover, KeptRun, Opened, RawEvent, ServedBy, TokenTrail
from ..tasks import MOST_TOKENS, Target

Content: TypeAlias = ReasoningDelta | ToolCallDelta | ToolCall | ProviderEvent
"""What a reader sees of an answer beside its text."""

Told: TypeAlias = Opened | RawEvent | UsageReport | Finished | KeptRun | TokenTrail | Handover | ServedBy
"""What a vendor says beside the answer."""


class Row:
    """One attempt under way.

    `output` is everything that the model has written, also what the reader never sees. `delivered` counts the
    characters that the reader has; both are complete after `Course.end`. `is_shown` is whether the reader has seen
    anything of this attempt, `reader_left` whether the reader has left the stream. Only the task that reads the attempt
    writes to its row.
    """

    def __init__(self, target: Target, number: int, now: float) -> None:
        self.target = target
        self.number = number
        self.began = now
        self.opened = False
        self.request_id: str | None = None
        self.first_token_at: float | None = None
        self.raw: dict[str, Any] | None = None
        self.usage_raw: dict[str, Any] | None = None
        self.finished_raw: dict[str, Any] | None = None
        self.output: list[str] = []
        self.has_tool_calls = False
        self.usage: Usage | None = None
        self.finished: Finished | None = None
        self.error: LLMDispatcherError | None = None
        self.join: Join | None = None
        self.is_shown = self.reader_left = False
        self.delivered = 0
        self.shown_from = 0
        """How many characters the reader had when this attempt was first shown."""
        self.unchanged_from = maxsize
        """The first piece of the transcript that is the model's own, unchanged. `output` has all before it."""

    def take(self, piece: Told | Content, notify: Notify) -> Content | None:
        """Take in a piece that is not text. Returns it, with the vendor's event, if the reader is to see it."""
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
            case KeptRun() | TokenTrail() | Handover() | ServedBy():
                pass
            case _:
                if isinstance(piece, ReasoningDelta):
                    self.output.append(piece.text)
                elif not isinstance(piece, ProviderEvent):
                    self.has_tool_calls = True
                return piece if self.raw is None else replace(piece, raw=self.raw)
        return None

    @property
    def has_shown_a_tool_call(self) -> bool:
        """Whether the reader has seen a tool call. While the join holds everything back, the reader sees none."""
        return self.has_tool_calls and self.is_shown

    @property
    def seam(self) -> Seam | None:
        """How the text of this attempt was joined to the text before it."""
        return self.join.seam if self.join is not None else None

    @property
    def trimmed(self) -> str:
        """The text that the join has removed from the head of this attempt."""
        return self.join.trimmed if self.join is not None else ""


def _credible(usage: Usage, target: Target, notify: Notify) -> Usage | None:
    """A vendor's report of its usage, or `None` if a count in it is impossible: then the ledger estimates instead.

    Every provider's report passes here, so nothing behind this has to handle a negative count or one of 400 digits.
    """
    counts = (
        usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cache_read_tokens,
        usage.cache_write_tokens,
    )  # fmt: skip
    if all(0 <= count <= MOST_TOKENS for count in counts):
        return usage
    notify(UsageReportRejected(target, MOST_TOKENS))
    return None
