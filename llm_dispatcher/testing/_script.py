"""The parts of a script: replies, usage and tool calls. They are values; an impossible one raises when it is made."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import count
from typing import Final

from msgspec import UnsetType
from msgspec.structs import replace

from .._vendors.table import VENDORS
from .._vendors.vendor import Vendor
from .faults import Breaks, Fault, Resplit, ScriptPart, not_negative


class Wire(StrEnum):
    """The APIs that a simulated vendor can have."""

    OPENAI_CHAT = "openai-chat"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC = "anthropic"
    GOOGLE = "google"
    OLLAMA = "ollama"


def key_of(wire: Wire, api_key: str | UnsetType | None) -> str | None:
    """The key that a vendor asks for: `api_key` if it is set, or `test-key` if a vendor of this wire asks for keys."""
    if not isinstance(api_key, UnsetType):
        return api_key
    return "test-key" if any(row.key_variables for row in VENDORS.values() if _speaks(row, wire)) else None


def _speaks(row: Vendor, wire: Wire) -> bool:
    return row.adapter is not None and wire in row.adapter.interfaces.values()


class SaidUsage(ScriptPart, frozen=True):
    """The usage that the vendor reports. As for OpenAI, `output` includes reasoning, and `input` cached tokens.

    `input` includes what was `written` to the prompt cache, too, and that includes what is kept for an hour,
    `written_1h`. Google and Ollama report neither, and OpenAI does not report the hour.
    """

    input: int = 9
    output: int = 12
    reasoning: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.cached <= self.input:
            raise ValueError(f"SaidUsage(cached) is part of input ({self.input}), got {self.cached}")
        if not 0 <= self.written <= self.input - self.cached:
            raise ValueError(
                f"SaidUsage(written) is part of the input that is not cached ({self.input - self.cached}), got "
                f"{self.written}"
            )
        if not 0 <= self.written_1h <= self.written:
            raise ValueError(f"SaidUsage(written_1h) is part of written ({self.written}), got {self.written_1h}")
        if not 0 <= self.reasoning <= self.output:
            raise ValueError(f"SaidUsage(reasoning) is part of output ({self.output}), got {self.reasoning}")


class SaidToolCall(ScriptPart, frozen=True):
    """A tool call. `arguments` is JSON text; a wire that has fragments sends it in two, or in pieces of `chunk_size`.

    A call without an `id` gets the next free one of `call_1`, `call_2` and so on, counted over the whole conversation.
    """

    name: str
    arguments: str = "{}"
    id: str = ""
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"SaidToolCall(chunk_size) is 1 or more, got {self.chunk_size}")

    @property
    def fragments(self) -> tuple[str, ...]:
        """The arguments in the pieces that are sent. Empty arguments are one empty piece."""
        size = self.chunk_size or (len(self.arguments) + 1) // 2
        return tuple(self.arguments[at : at + size] for at in range(0, len(self.arguments), size or 1)) or ("",)


class Decline(ScriptPart, frozen=True):
    """The model declines to go on, after this many pieces of the reply's content. Anthropic's wire only.

    If the request names `fallbacks`, the next of them continues the reply; else it ends there as a refusal. A model
    that has declined before it wrote anything is not billed, though its input is in the report.

    Args:
        after: The pieces of content before it, counted over the whole reply. 0 declines before the first one.
        category: The vendor's word for the kind of refusal, such as `cyber`.
        usage: What this model has used; by default nine tokens of input, and a token for each piece that it wrote.
    """

    after: int = 0
    category: str | None = None
    usage: SaidUsage | None = None

    def __post_init__(self) -> None:
        not_negative("Decline(after)", self.after)


FINISHES: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "refusal"})


class Reply(ScriptPart, frozen=True):
    """One answer of a simulated vendor.

    The text is sent word by word, or in pieces of `chunk_size` characters, or in these `chunks`. Faults count pieces of
    content in the order in which they are sent: reasoning, text, fragments of tool calls.

    Args:
        text: The text of the answer.
        fault: How the answer fails, such as `Cut(after=3)`.
        chunks: The pieces of the text.
        chunk_size: The length of the pieces of the text, in characters.
        pace: The pause after each piece, in seconds.
        reasoning: Pieces of reasoning, which come before the text.
        tool_calls: Tool calls, which come after the text.
        usage: The reported usage; `None` for none.
        finish_reason: `stop`, `length`, `tool_calls`, `content_filter` or `refusal`. It is sent in the vendor's words.
        raw_finish_reason: A finish reason that is sent unchanged.
        resplit: Other borders between the bytes that are sent together.
        headers: Extra HTTP headers.
        declines: Where a model declines and, if the request names `fallbacks`, hands over to the next model.
        is_signed: The answer has the vendor's signatures, as newer models give them: on Google's wire the first call
            has a thought signature, on OpenAI's responses wire the reasoning is encrypted. Anthropic's wire always
            signs reasoning.
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
    raw_finish_reason: str | None = None
    resplit: Resplit | None = None
    headers: Mapping[str, str] = {}
    declines: tuple[Decline, ...] = ()
    is_signed: bool = False

    def __post_init__(self) -> None:
        if self.chunks and self.text and "".join(self.chunks) != self.text:
            raise ValueError("Reply(chunks) do not add up to its text")
        if self.chunk_size is not None and (self.chunks or self.chunk_size < 1):
            raise ValueError("Reply(chunk_size) is 1 or more, and excludes chunks")
        not_negative("Reply(pace)", self.pace)
        if self.finish_reason is not None and self.finish_reason not in FINISHES:
            raise ValueError(
                f"Reply(finish_reason) is one of {', '.join(sorted(FINISHES))}; got {self.finish_reason!r}"
                " (raw_finish_reason takes a word of the vendor)"
            )
        places = [each.after for each in self.declines]
        if places != sorted(places) or places[-1:] > [self.length]:
            raise ValueError(f"Reply(declines) are in order, and not past its {self.length} pieces; got {places}")
        if self.fault is not None and not isinstance(self.fault, Fault):
            raise TypeError(f"Reply(fault) is a fault like Cut(after=3), got {type(self.fault).__name__}")
        if isinstance(self.fault, Breaks) and self.fault.after > self.length:
            raise ValueError(
                f"{type(self.fault).__name__}(after={self.fault.after}) is past the end: "
                f"the reply has {self.length} pieces of content"
            )

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text in the pieces that are sent."""
        if self.chunks:
            return self.chunks
        if self.chunk_size is not None:
            return tuple(self.text[at : at + self.chunk_size] for at in range(0, len(self.text), self.chunk_size))
        return tuple(re.findall(r"\s*\S+\s*$|\s*\S+|\s+", self.text))

    @property
    def length(self) -> int:
        """The number of pieces of content at most: some wires send a tool call in one piece."""
        return len(self.reasoning) + len(self.pieces) + sum(len(call.fragments) for call in self.tool_calls)

    @property
    def finish(self) -> str:
        """The finish reason."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


def numbered(reply: Reply, ids: Collection[str] = ()) -> Reply:
    """The reply with an id for each of its calls. `ids` are those of the conversation; a call without one has `""`."""
    if all(call.id for call in reply.tool_calls):
        return reply
    taken = {*ids, *(call.id for call in reply.tool_calls)}
    free = (name for number in count(1 + sum(not each for each in ids)) if (name := f"call_{number}") not in taken)
    calls = [call if call.id else replace(call, id=next(free)) for call in reply.tool_calls]
    return replace(reply, tool_calls=tuple(calls))
