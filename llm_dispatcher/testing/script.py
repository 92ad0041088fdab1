"""What a simulated vendor is told to say, and how it is told to break.

Scripts are values: one that cannot be is refused when it is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct


class Wire(StrEnum):
    """The wires that are spoken."""

    OPENAI_CHAT = "openai-chat"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"
    OLLAMA = "ollama"


class Refuse(Struct, frozen=True, tag="refuse"):
    """Reset the connection as soon as the request is here, without a word."""


class SlowHeaders(Struct, frozen=True, tag="slow-headers"):
    """Answer, but let the head of the answer wait this long."""

    seconds: float

    def __post_init__(self) -> None:
        _not_negative("SlowHeaders(seconds)", self.seconds)


class HttpError(Struct, frozen=True, tag="http-error"):
    """Answer with an HTTP error, in the vendor's own form unless there is a `body`."""

    status: int
    retry_after: float | None = None
    message: str = "simulated"
    code: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"HttpError(status) is from 400 to 599, got {self.status}")
        _not_negative("HttpError(retry_after)", self.retry_after or 0)


class _Breaking(Struct, frozen=True):
    """A fault in the stream, after this many pieces of content."""

    after: int = 0

    def __post_init__(self) -> None:
        if self.after < 0:
            raise ValueError(f"{type(self).__name__}(after) is 0 or more, got {self.after}")


class Cut(_Breaking, frozen=True, tag="cut"):
    """Reset the connection. What was sent before gets a moment to arrive: a reset overtakes what is unread."""

    moment: float = 0.02


class CleanEnd(_Breaking, frozen=True, tag="clean-end"):
    """End the body in good order, without the vendor's word that the answer is complete."""


class Stall(_Breaking, frozen=True, tag="stall"):
    """Send nothing more, and keep the connection."""


class ErrorFrame(_Breaking, frozen=True, tag="error-frame"):
    """Send an error in the stream, in the vendor's own form, and end."""

    message: str = "simulated"


class MalformedJson(_Breaking, frozen=True, tag="malformed-json"):
    """Send an event whose JSON breaks off, and end."""


class Garbage(_Breaking, frozen=True, tag="garbage"):
    """Send bytes that are no text in any encoding, as an event, and end."""

    data: bytes = b"\x00\xff\xfe\x80garbage\xc3\x28"


class KeepAlives(_Breaking, frozen=True, tag="keep-alives"):
    """Send nothing but keep-alives from here on, until the reader leaves."""

    every: float = 0.01


Breaking: TypeAlias = Cut | CleanEnd | Stall | ErrorFrame | MalformedJson | Garbage | KeepAlives
Fault: TypeAlias = Refuse | SlowHeaders | HttpError | Breaking


class Resplit(Struct, frozen=True):
    """Cut the answer's bytes anew, wherever it may be: in pieces of these sizes, over and over."""

    sizes: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"Resplit(sizes) are 1 or more, got {self.sizes}")


class SaidUsage(Struct, frozen=True):
    """What the vendor counts. `output` includes reasoning and `input` includes what was cached, as on OpenAI's wire."""

    input: int = 9
    output: int = 12
    reasoning: int = 0
    cached: int = 0


class SaidToolCall(Struct, frozen=True):
    """A tool call; `arguments` is JSON text, sent in fragments where the wire has fragments."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


FINISHES: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "refusal"})


class Reply(Struct, frozen=True):
    """One answer. Its text is sent word by word, or in pieces of `chunk_size` characters, or as `chunks` say.

    `finish_reason` is one of ours and is said in the vendor's words; `usage=None` leaves it out. Pieces of
    content are counted in the order in which they are sent: reasoning, text, fragments of tool calls.
    """

    text: str = ""
    fault: Fault | None = None
    chunks: tuple[str, ...] = ()
    chunk_size: int | None = None
    pace: float = 0.0
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[SaidToolCall, ...] = ()
    usage: SaidUsage | None = SaidUsage()
    finish_reason: str | None = None
    resplit: Resplit | None = None
    headers: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if self.chunks and self.text and "".join(self.chunks) != self.text:
            raise ValueError("Reply(chunks) do not add up to its text")
        if self.chunk_size is not None and (self.chunks or self.chunk_size < 1):
            raise ValueError("Reply(chunk_size) is 1 or more, and excludes chunks")
        _not_negative("Reply(pace)", self.pace)
        if self.finish_reason is not None and self.finish_reason not in FINISHES:
            raise ValueError(
                f"Reply(finish_reason) is one of {', '.join(sorted(FINISHES))}; got {self.finish_reason!r}"
            )
        if isinstance(self.fault, _Breaking) and self.fault.after > self.length:
            raise ValueError(
                f"{type(self.fault).__name__}(after={self.fault.after}) is past the end: "
                f"the reply has {self.length} pieces of content"
            )

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text as it is sent."""
        if self.chunks:
            return self.chunks
        if self.chunk_size is not None:
            return tuple(self.text[at : at + self.chunk_size] for at in range(0, len(self.text), self.chunk_size))
        return tuple(re.findall(r"\s*\S+\s*$|\s*\S+|\s+", self.text))

    @property
    def length(self) -> int:
        """How many pieces of content there are, at most: some wires send a tool call in one."""
        return len(self.reasoning) + len(self.pieces) + sum(len(fragments(call)) for call in self.tool_calls)

    @property
    def finish(self) -> str:
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


def fragments(call: SaidToolCall) -> list[str]:
    """A tool call's arguments in the pieces that they are sent in."""
    half = (len(call.arguments) + 1) // 2
    return [call.arguments[:half], call.arguments[half:]] if len(call.arguments) > 1 else [call.arguments]


def _not_negative(what: str, value: float) -> None:
    if value < 0:
        raise ValueError(f"{what} is 0 or more, got {value}")
