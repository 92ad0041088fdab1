"""What happens in a stream, as values: the same value is a chunk, a cache row, an SSE frame and a log line.

The order in which events may come:

    Stream := Failed | Cancelled | Turn (ToolResult+ Turn)* End
    Turn   := Started Content* (Interrupted Switched? Reset? Started Content*)*
    End    := Completed | Interrupted? (Failed | Cancelled)

`check_order` holds a list of events to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from ._redaction import loggable, loggable_id
from ._usage import Usage as Usage
from ._usage import UsageSource as UsageSource
from .exceptions import LLMDispatcherError
from .tasks import Target

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "cancelled"]
Seam: TypeAlias = Literal["anchor", "restart", "overlap", "plain"]


class Failure(Struct, frozen=True, omit_defaults=True):
    """An error as a value: `kind` is the error class's name. `message` is one line and holds nothing secret."""

    kind: str
    message: str
    provider: str | None = None
    model: str | None = None
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        return cls(
            kind=type(error).__name__,
            message=loggable(error.message if isinstance(error, LLMDispatcherError) else str(error)),
            provider=getattr(error, "provider", None),
            model=getattr(error, "model", None),
            status=getattr(error, "status", None),
            retry_after=getattr(error, "retry_after", None),
            request_id=loggable_id(getattr(error, "request_id", None)),
        )

    def __str__(self) -> str:
        who = "/".join(part for part in (self.provider, self.model) if part)
        return f"{who}: {self.message}" if who else self.message


class _Event(Struct, frozen=True, tag_field="type", omit_defaults=True):
    """What all events share: on the wire, `type` tells them apart."""


class StreamStarted(_Event, frozen=True, tag="started"):
    """A model began to answer. `attempt` counts from 1 over all targets; `cached` is a replay."""

    target: Target
    attempt: int
    cached: bool


class TextDelta(_Event, frozen=True, tag="text"):
    """A piece of the answer; `index` counts from 0, as delivered, across switches."""

    text: str
    index: int
    raw: dict[str, Any] | None = None


class ReasoningDelta(_Event, frozen=True, tag="reasoning"):
    """A piece of what the model thinks; `signature` lets the same vendor go on from it."""

    text: str
    signature: str | None = None
    raw: dict[str, Any] | None = None


class ToolCallDelta(_Event, frozen=True, tag="tool_call_delta"):
    """A fragment of a tool call's arguments; the whole call follows as a `ToolCall`."""

    id: str
    name: str
    fragment: str
    raw: dict[str, Any] | None = None


class ToolCall(_Event, frozen=True, tag="tool_call"):
    """A whole tool call; `arguments` are `None` where the model's JSON is broken."""

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw_arguments: str
    raw: dict[str, Any] | None = None


class ToolResult(_Event, frozen=True, tag="tool_result"):
    """What came of running a tool: a result, or an error's words."""

    id: str
    name: str
    result: str | None = None
    error: str | None = None


class UsageReport(_Event, frozen=True, tag="usage"):
    """What the vendor says that this attempt used, once, when it says it last; `raw` is the event that said it."""

    usage: Usage
    raw: dict[str, Any] | None = None


class ProviderEvent(_Event, frozen=True, tag="provider"):
    """Something that only some vendors have: a search under way, a citation, a safety rating."""

    kind: str
    data: dict[str, Any]
    raw: dict[str, Any] | None = None


class StreamInterrupted(_Event, frozen=True, tag="interrupted"):
    """The vendor's stream broke after something was shown; `delivered` counts the characters that the reader has."""

    failure: Failure
    delivered: int


class StreamSwitched(_Event, frozen=True, tag="switched"):
    """Another target takes over. `seam` says how its text was joined, `trimmed` what was removed of it."""

    from_target: Target
    to_target: Target
    reason: str
    seam: Seam
    trimmed: str


class StreamReset(_Event, frozen=True, tag="reset"):
    """Forget the text so far: the answer begins again."""


class StreamCompleted(_Event, frozen=True, tag="completed"):
    """The vendor said that the answer is complete. `usage` is the sum of all attempts.

    With `raw=True`, `raw` is the vendor's event that said so.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    raw_finish_reason: str | None
    raw: dict[str, Any] | None = None


class StreamFailed(_Event, frozen=True, tag="failed"):
    """The stream is over without a whole answer."""

    failure: Failure


class StreamCancelled(_Event, frozen=True, tag="cancelled"):
    """The reader left."""


Content: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | ToolCall | UsageReport | ProviderEvent
Event: TypeAlias = (
    StreamStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ToolCall
    | ToolResult
    | UsageReport
    | ProviderEvent
    | StreamInterrupted
    | StreamSwitched
    | StreamReset
    | StreamCompleted
    | StreamFailed
    | StreamCancelled
)

AttemptOutcome: TypeAlias = Literal["completed", "failed", "cancelled"]


class Attempt(Struct, frozen=True):
    """One row of the ledger: what one try of one target came to, and what it cost.

    `number` counts from 1 over all targets, `delivered` counts the characters that reached the reader, `trimmed` is
    what the join took off the head. Usage of an attempt that the vendor did not account for is estimated.
    """

    target: Target
    number: int
    outcome: AttemptOutcome
    failure: Failure | None
    delivered: int
    trimmed: str
    seam: Seam | None
    usage: Usage
    request_id: str | None
    first_token_after: float | None
    elapsed: float


class TaskResponse(Struct, frozen=True):
    """What is left of a stream. While it runs, and after it failed, this holds what is known so far."""

    text: str
    target: Target | None
    finish_reason: FinishReason | None
    usage: Usage
    tool_calls: tuple[ToolCall, ...]
    attempts: tuple[Attempt, ...]
    cached: bool
    started: datetime | None
    first_token_after: float | None
    elapsed: float
    error: Exception | None

    @property
    def cost(self) -> float | None:
        """US dollars for all attempts together, `None` where a price is not known."""
        return self.usage.cost


_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)


def to_json(event: Event) -> bytes:
    """The event as one line of JSON."""
    return _encoder.encode(event)


def from_json(line: bytes | str) -> Event:
    """The event that `to_json` wrote."""
    return _decoder.decode(line)


_LETTERS: Final[Mapping[type[Struct], str]] = {
    StreamStarted: "S",
    TextDelta: "c",
    ReasoningDelta: "c",
    ToolCallDelta: "c",
    ToolCall: "c",
    UsageReport: "c",
    ProviderEvent: "c",
    ToolResult: "t",
    StreamInterrupted: "i",
    StreamSwitched: "w",
    StreamReset: "r",
    StreamCompleted: "C",
    StreamFailed: "F",
    StreamCancelled: "X",
}
_TURN: Final = "Sc*(?:iw?r?Sc*)*"
_WHOLE: Final = re.compile(f"F|X|{_TURN}(?:t+{_TURN})*(?:C|i?[FX])")


def check_order(events: Iterable[Event]) -> None:
    """Raise a `ValueError` that shows the order, unless these events are one whole stream in a legal order."""
    seen = list(events)
    if not _WHOLE.fullmatch("".join(_LETTERS[type(event)] for event in seen)):
        names = " ".join(type(event).__name__.removeprefix("Stream") for event in seen)
        raise ValueError(f"no stream goes like this: {names or 'nothing at all'}")
    indexes = [event.index for event in seen if isinstance(event, TextDelta)]
    if indexes != list(range(len(indexes))):
        raise ValueError(f"text deltas count from 0 without a gap, got {indexes}")
