"""The events of a stream, as values. The same value is given to readers, recorded by the cache and sent as JSON.

The legal order of events:

    Stream := Failed | Cancelled | Turn (ToolResult+ Turn)* (End | ToolResult+ (Failed | Cancelled))
    Turn   := Started Content* (Interrupted Dropped* Switched? Reset? Started Content*)*
    End    := Completed | (Interrupted Dropped* Switched? Reset?)? (Failed | Cancelled)

`check_order` checks a list of events against it.
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
from .tasks import Message, Target

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "cancelled"]
Seam: TypeAlias = Literal["anchor", "restart", "overlap", "plain"]

Rung: TypeAlias = Literal["reattached", "exact", "prefill", "anchored", "restarted"]
"""How a broken answer was continued, from the strongest way to the weakest. See docs/when-a-stream-breaks.md."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """An error as a value. `kind` is the name of the error's class. `message` is one line, and secrets are redacted."""

    kind: str
    message: str
    provider: str | None = None
    model: str | None = None
    status: int | None = None
    retry_after: float | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The error as a value."""
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


class _Event(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The base of all events. In JSON, `type` names the kind of an event.

    `sequence` is the event's number in its stream: it counts from 0 without gaps and independently of the vendor. It is
    -1 until the tap has numbered the event. Two events are equal if their other fields are equal.
    """

    sequence: int = -1

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__ if name != "sequence")

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__struct_fields__ if name != "sequence"))


class StreamStarted(_Event, frozen=True, tag="started"):
    """A model began to answer. `attempt` counts from 1 over all targets. `cached` means that the answer is free.

    `rung` is how this attempt continues a broken answer; `None` if it continues none.
    """

    target: Target
    attempt: int
    cached: bool
    rung: Rung | None = None


class TextDelta(_Event, frozen=True, tag="text"):
    """A piece of the answer. `index` counts from 0 over the whole stream, across switches."""

    text: str
    index: int
    raw: dict[str, Any] | None = None


class ReasoningDelta(_Event, frozen=True, tag="reasoning"):
    """A piece of the model's reasoning. With `signature`, the same vendor can continue from it."""

    text: str
    signature: str | None = None
    raw: dict[str, Any] | None = None


class ToolCallDelta(_Event, frozen=True, tag="tool_call_delta"):
    """A fragment of a tool call's arguments. The complete call follows as a `ToolCall` at the end of the answer."""

    id: str
    name: str
    fragment: str
    raw: dict[str, Any] | None = None


class ToolCall(_Event, frozen=True, tag="tool_call"):
    """A complete tool call. `arguments` is `None` if the model's JSON is invalid.

    It comes when the vendor has said that its answer is complete. Until then, readers see its fragments at most.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    raw_arguments: str
    raw: dict[str, Any] | None = None


class ToolCallDropped(_Event, frozen=True, tag="tool_call_dropped"):
    """The answer broke before it was complete, so this tool call is not made. Discard its fragments."""

    id: str
    name: str


class ToolResult(_Event, frozen=True, tag="tool_result"):
    """The result of running a tool, or the message of its error."""

    id: str
    name: str
    result: str | None = None
    error: str | None = None


class UsageReport(_Event, frozen=True, tag="usage"):
    """The vendor's last report of the tokens that this attempt used. `raw` is the vendor's event with the report."""

    usage: Usage
    raw: dict[str, Any] | None = None


class ProviderEvent(_Event, frozen=True, tag="provider"):
    """An event that only some vendors have, such as a running search, a citation or a safety rating."""

    kind: str
    data: dict[str, Any]
    raw: dict[str, Any] | None = None


class StreamInterrupted(_Event, frozen=True, tag="interrupted"):
    """The vendor's stream broke after something was delivered. `delivered` counts the characters of the text."""

    failure: Failure
    delivered: int


class StreamSwitched(_Event, frozen=True, tag="switched"):
    """Another target continues, by this `rung`. `seam` says how its text was joined; `trimmed` was cut off."""

    from_target: Target
    to_target: Target
    reason: str
    seam: Seam
    trimmed: str
    rung: Rung | None = None


class StreamReset(_Event, frozen=True, tag="reset"):
    """The turn begins again. Discard what came since the last `ToolResult`, or everything if there was none."""


class StreamCompleted(_Event, frozen=True, tag="completed"):
    """The vendor reported that the answer is complete. `usage` is the sum of all attempts.

    With the setting `raw=True`, `raw` is the vendor's event with that report.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    raw_finish_reason: str | None
    raw: dict[str, Any] | None = None


class StreamFailed(_Event, frozen=True, tag="failed"):
    """The stream ended without a complete answer."""

    failure: Failure


class StreamCancelled(_Event, frozen=True, tag="cancelled"):
    """The reader closed the stream before its end."""


Content: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | ToolCall | UsageReport | ProviderEvent
Event: TypeAlias = (
    StreamStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ToolCall
    | ToolCallDropped
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
    """One row of the ledger: the outcome and the cost of one attempt at one target.

    `number` counts from 1 over all targets. `delivered` counts the characters that reached the reader. `trimmed` is the
    repetition that the join removed. The usage is estimated if the vendor did not report it. `rung` is how the attempt
    continued a broken answer, and `proof` says in a few words why its text is the rest of that answer.
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
    rung: Rung | None = None
    proof: str | None = None


class TaskResponse(Struct, frozen=True):
    """The result of a stream. While the stream runs, and after it failed, it holds the text and the figures so far."""

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
    messages: tuple[Message, ...] = ()
    """What the stream adds to the conversation: the turns of the model, each followed by the results of its calls."""

    @property
    def message(self) -> Message:
        """The last turn of the model. It has no parts if there is none."""
        turns = (message for message in reversed(self.messages) if message.role == "assistant")
        return next(turns, None) or Message("assistant", ())

    @property
    def cost(self) -> float | None:
        """The cost of all attempts in US dollars; `None` if a price is unknown."""
        return self.usage.cost


_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)


def to_json(event: Event) -> bytes:
    """Encode an event as one line of JSON."""
    return _encoder.encode(event)


def from_json(line: bytes | str) -> Event:
    """Parse an event from the JSON of `to_json`."""
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
    ToolCallDropped: "d",
    StreamSwitched: "w",
    StreamReset: "r",
    StreamCompleted: "C",
    StreamFailed: "F",
    StreamCancelled: "X",
}
_TURN: Final = "Sc*(?:id*w?r?Sc*)*"
_WHOLE: Final = f"F|X|{_TURN}(?:t+{_TURN})*(?:C|(?:id*w?r?)?[FX]|t+[FX])"


def check_order(events: Iterable[Event]) -> None:
    """Check that these events are one complete stream in a legal order.

    Raises:
        ValueError: They are not. The message shows the order.
    """
    stream = list(events)
    if not re.fullmatch(_WHOLE, "".join(_LETTERS[type(event)] for event in stream)):
        names = " ".join(type(event).__name__.removeprefix("Stream") for event in stream)
        raise ValueError(f"these events are not a stream in a legal order: {names or 'no events'}")
    indexes = [event.index for event in stream if isinstance(event, TextDelta)]
    if indexes != list(range(len(indexes))):
        raise ValueError(f"text deltas count from 0 without a gap, got {indexes}")
