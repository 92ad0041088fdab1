"""The chat completions wire, as OpenAI and many other hosts speak it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ..._usage import Usage
from ..._vendors.quirks import Quirk
from ...events import FinishReason, ProviderEvent, ReasoningDelta, UsageReport
from ...provider import Finished, Piece
from ...provider._decoding import DONE, ToolCalls, as_text, tokens
from ...provider._errors import error_for, read_error
from ...tasks import Target


class _Function(Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Custom(Struct):
    name: str | None = None
    input: str | None = None


class _ToolCall(Struct):
    index: int | str | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None

    @property
    def tool(self) -> _Function:
        """The function or tool that is called. The input of a custom tool is free text."""
        if self.custom is not None:
            return _Function(self.custom.name, self.custom.input)
        return self.function or _Function()


class Delta(Struct):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: list[dict[str, Any]] | None = None
    audio: dict[str, Any] | None = None
    images: list[dict[str, Any]] | None = None


class Choice(Struct):
    delta: Delta | None = None
    finish_reason: str | None = None
    index: int | None = 0


class _Groq(Struct):
    usage: dict[str, Any] | None = None
    error: Any = None


class Chunk(Struct):
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    object: Any = None
    message: Any = None
    type: Any = None
    code: Any = None
    citations: list[Any] | None = None
    x_groq: _Groq | None = None


_decode: Final = msgspec.json.Decoder(Chunk).decode

NoText: TypeAlias = Literal[""] | None
FirstIndex: TypeAlias = Literal[0] | None
_NoList: TypeAlias = Annotated[list[Any], Meta(max_length=0)] | None


class PlainDelta(Struct, gc=False):
    content: Annotated[str, Meta(min_length=1)]
    refusal: NoText = None
    reasoning_content: NoText = None
    reasoning: NoText = None
    tool_calls: _NoList = None
    function_call: None = None
    annotations: _NoList = None
    audio: None = None
    images: _NoList = None


class _PlainChoice(Struct, gc=False):
    delta: PlainDelta
    finish_reason: NoText = None
    index: FirstIndex = 0


class _PlainChunk(Struct, gc=False):
    """A chunk with text and nothing else, like nearly every chunk. msgspec rejects any other chunk at little cost."""

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    citations: None = None
    x_groq: None = None


_decode_plain: Final = msgspec.json.Decoder(_PlainChunk).decode

_FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "eos": "stop",
    "end_turn": "stop",
    "model_length": "length",
}


class Decoder:
    """Decodes one answer."""

    def __init__(self, target: Target, quirks: Container[Quirk] = ()) -> None:
        self._target = target
        self._done_is_the_end = "omits_finish_reason" in quirks
        self._usage_makes_done_the_end = "done_after_usage" in quirks
        self._tools = ToolCalls()
        self._has_calls = self._has_refusal = self._finished = False
        self.ended = False
        self._citations: list[Any] = []

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if data == DONE:
            self.ended = True  # the usage report comes between the finish reason and this
            if self._done_is_the_end and not self._finished:
                self._finished = True
                return (*self._tools.all(), Finished(self._reason("stop"), None))
        if data == DONE or not data:
            return ()
        try:
            return (_decode_plain(data).choices[0].delta.content,)
        except msgspec.ValidationError:
            pass
        return self._others(_decode(data))

    def _others(self, chunk: Chunk) -> Iterable[Piece]:
        if (error := _error(chunk)) is not None:
            raise error_for(read_error(error), self._target)
        if chunk.citations is not None and chunk.citations != self._citations:  # repeated in every chunk
            self._citations = chunk.citations
            yield ProviderEvent("citations", {"citations": chunk.citations})
        for choice in chunk.choices or ():
            if choice.index:
                continue  # several answers are delivered as raw events only
            if choice.delta is not None:
                yield from self._delta(choice.delta)
            if choice.finish_reason and not self._finished:
                self._finished = True
                yield from self._tools.all()
                yield Finished(self._reason(choice.finish_reason), choice.finish_reason)
        counts = chunk.usage if chunk.x_groq is None or chunk.usage is not None else chunk.x_groq.usage
        if counts is not None:
            self._done_is_the_end = self._done_is_the_end or self._usage_makes_done_the_end
            yield UsageReport(usage(counts))

    def _reason(self, reason_sent: str) -> FinishReason:
        """The finish reason. An answer with tool calls may end in `stop`, e.g. after a `tool_choice`."""
        reason = _FINISH.get(reason_sent, "stop")
        if reason != "stop":
            return reason
        return "tool_calls" if self._has_calls else "refusal" if self._has_refusal else "stop"

    def _delta(self, delta: Delta) -> Iterable[Piece]:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            yield ReasoningDelta(thought)
        if delta.refusal:
            self._has_refusal = True
            yield ProviderEvent("refusal", {"text": delta.refusal})
        if isinstance(delta.content, str):
            if delta.content:
                yield delta.content
        elif delta.content:
            yield from _parts(delta.content)
        for call in delta.tool_calls or ():
            yield self._call(self._key(call), call.id, call.tool)
        if delta.function_call is not None:
            yield self._call("function_call", None, delta.function_call)
        for annotation in delta.annotations or ():
            yield ProviderEvent("citation", annotation)
        if delta.audio is not None:
            yield ProviderEvent("audio", delta.audio)
        for image in delta.images or ():
            yield ProviderEvent("image", image)

    def _call(self, key: object, id: str | None, function: _Function) -> Piece:  # noqa: A002 - the event's own word
        self._has_calls = True
        return self._tools.fragment(key, id or "", function.name or "", as_text(function.arguments))

    def _key(self, call: _ToolCall) -> object:
        """The key of the call that a fragment belongs to. Hosts send an index, an id, or both."""
        if call.index is not None:
            return int(call.index) if isinstance(call.index, str) and call.index.isdecimal() else call.index
        if call.id:
            return call.id
        return object() if call.tool.name or self._tools.latest() is None else self._tools.latest()


def _parts(parts: list[dict[str, Any]]) -> Iterable[Piece]:
    """Content that is a list, as Mistral's reasoning models send it."""
    for part in parts:
        match part.get("type"):
            case "text":
                yield str(part.get("text") or "")
            case "thinking":
                inner = part.get("thinking")
                for thought in inner if isinstance(inner, list) else [inner]:
                    text = thought.get("text") if isinstance(thought, dict) else thought
                    if isinstance(text, str) and text:
                        yield ReasoningDelta(text)
            case kind:
                yield ProviderEvent(str(kind), part)


def usage(counts: dict[str, Any]) -> Usage:
    """OpenAI's counts. The prompt includes cached tokens, and the completion includes reasoning."""
    return Usage(
        input_tokens=tokens(counts, "prompt_tokens"),
        output_tokens=tokens(counts, "completion_tokens"),
        reasoning_tokens=tokens(counts, "completion_tokens_details", "reasoning_tokens"),
        cache_read_tokens=tokens(counts, "prompt_tokens_details", "cached_tokens")
        or tokens(counts, "prompt_cache_hit_tokens")  # DeepSeek
        or tokens(counts, "cached_tokens"),  # Moonshot
        cache_write_tokens=tokens(counts, "prompt_tokens_details", "cache_write_tokens"),
        source="reported",
        raw=counts,
    )


def _error(chunk: Chunk) -> Any:
    """The error in a chunk, under whichever name a host puts it, or `None`."""
    if chunk.error:
        return chunk.error
    if chunk.x_groq is not None and chunk.x_groq.error:
        return chunk.x_groq.error
    if chunk.object == "error":
        return {"message": chunk.message, "type": chunk.type, "code": chunk.code}
    if any(choice.finish_reason == "error" for choice in chunk.choices or ()):
        return {"message": "the model's answer ended in an error"}
    return None
