"""Google's wire: `streamGenerateContent`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ..._usage import Usage
from ...events import FinishReason, ProviderEvent, ReasoningDelta, ToolCallDelta, UsageReport
from ...provider import Finished, Piece
from ...provider._decoding import new_id, tokens, whole_call
from ...provider._errors import ErrorReply, error_for, error_message
from ...provider._rate_limit_headers import amount
from ...tasks import Target
from .partial_arguments import PartialArgument, PartialArguments


class _FunctionCall(Struct, rename="camel"):
    name: str | None = None
    args: dict[str, Any] | None = None
    id: str | None = None
    partial_args: list[PartialArgument] | None = None
    will_continue: bool | None = None


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None


class _Content(Struct):
    parts: list[_Part] | None = None


class _Candidate(Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = 0
    grounding_metadata: dict[str, Any] | None = None
    citation_metadata: dict[str, Any] | None = None
    url_context_metadata: dict[str, Any] | None = None


class _Chunk(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw()
    prompt_feedback: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode


class _PlainPart(Struct, gc=False, rename="camel"):
    text: Annotated[str, Meta(min_length=1)]
    thought: None = None
    thought_signature: None = None
    function_call: None = None


class _PlainContent(Struct, gc=False):
    parts: tuple[_PlainPart]


class _PlainCandidate(Struct, gc=False, rename="camel"):
    content: _PlainContent
    finish_reason: None = None
    index: Literal[0] | None = 0
    grounding_metadata: None = None
    citation_metadata: None = None
    url_context_metadata: None = None


class _PlainChunk(Struct, gc=False, rename="camel"):
    """A chunk with text and nothing else but a count that is not read, like nearly every chunk."""

    candidates: tuple[_PlainCandidate]
    prompt_feedback: None = None
    error: None = None


_decode_plain: Final = msgspec.json.Decoder(_PlainChunk).decode

_NEWS: Final = ("grounding_metadata", "citation_metadata", "url_context_metadata")

_FINISH: Final[dict[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}


class Decoder:
    """Decodes one answer. The last usage and the finish reason arrive with content, in the same event."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: _OpenCall | None = None
        self._has_calls = self._has_usage = False
        self.ended = False  # set with the last content; the usage is in the same event

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if not data:
            return ()
        if self._has_usage and not self.ended:
            try:
                return (_decode_plain(data).candidates[0].content.parts[0].text,)
            except msgspec.ValidationError:
                pass
        return self._others(_decode(data), data)

    def _others(self, chunk: _Chunk, data: bytes) -> Iterable[Piece]:
        if chunk.error:
            code = chunk.error.get("code")
            raise error_for(error_reply(chunk.error, code if isinstance(code, int) else None), self._target)
        for candidate in chunk.candidates or ():
            if not candidate.index:
                yield from self._candidate(candidate, data)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.get("blockReason"):
            self.ended = True
            yield Finished("content_filter", str(chunk.prompt_feedback["blockReason"]))
        # Every event has a count. It is read at the beginning, for the input, and at the end.
        if chunk.usage_metadata and (self.ended or not self._has_usage):
            counts = msgspec.json.decode(chunk.usage_metadata, type=dict[str, Any] | None)
            if counts is not None:
                self._has_usage = True
                yield UsageReport(_usage(counts))

    def _candidate(self, candidate: _Candidate, data: bytes) -> Iterable[Piece]:
        for number, part in enumerate((candidate.content and candidate.content.parts) or ()):
            if part.thought:
                yield ReasoningDelta(part.text or "", part.thought_signature or None)
                continue
            if part.thought_signature:
                yield ReasoningDelta("", part.thought_signature)  # it belongs to the part that follows
            if part.text:
                yield part.text
            elif part.function_call is not None:
                yield from self._call(part.function_call)
            elif part.text is None:
                yield from _unknown(data, number)
        for name in _NEWS:
            if (news := getattr(candidate, name)) is not None:
                yield ProviderEvent(name, news)
        if candidate.finish_reason is not None:
            self.ended = True
            if self._open is not None:
                yield from self._whole(self._open)
            reason = _FINISH.get(candidate.finish_reason, "stop")
            yield Finished("tool_calls" if self._has_calls and reason == "stop" else reason, candidate.finish_reason)

    def _call(self, call: _FunctionCall) -> Iterable[Piece]:
        """A call, whole or in pieces. The first piece has the name; the last does not announce another one."""
        self._has_calls = True
        if self._open is not None and call.name is not None:
            yield from self._whole(self._open)
        current = self._open = self._open or _OpenCall(call.id or new_id(), call.name or "")
        current.arguments.value.update(call.args or {})
        for part in call.partial_args or ():
            current.arguments.add(part)
        if call.will_continue:
            yield ToolCallDelta(current.id, current.name, "")  # shows activity: the piece is not a fragment of JSON
        else:
            yield from self._whole(current)

    def _whole(self, call: _OpenCall) -> Iterable[Piece]:
        self._open = None
        arguments = msgspec.json.encode(call.arguments.value).decode()
        yield ToolCallDelta(call.id, call.name, arguments)
        yield whole_call(call.id, call.name, arguments)


class _OpenCall:
    """A call whose arguments may come in pieces."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self, id: str, name: str) -> None:  # noqa: A002 - the event's own word
        self.id = id
        self.name = name
        self.arguments = PartialArguments()


def _unknown(data: bytes, number: int) -> Iterable[Piece]:
    """A part that is neither text nor a call, such as code that the vendor ran, as a `ProviderEvent`."""
    candidates = msgspec.json.decode(data)["candidates"]
    part = next(candidate for candidate in candidates if not candidate.get("index"))["content"]["parts"][number]
    for name, value in part.items():
        if isinstance(value, dict):
            yield ProviderEvent(name, value)


def _usage(counts: dict[str, Any]) -> Usage:
    """Google counts the answer and the reasoning separately. The output of `Usage` includes both."""
    thoughts = tokens(counts, "thoughtsTokenCount")
    return Usage(
        input_tokens=tokens(counts, "promptTokenCount") + tokens(counts, "toolUsePromptTokenCount"),
        output_tokens=tokens(counts, "candidatesTokenCount") + thoughts,
        reasoning_tokens=thoughts,
        cache_read_tokens=tokens(counts, "cachedContentTokenCount"),
        source="reported",
        raw=counts,
    )


def error_reply(
    body: Any, status: int | None, headers: dict[str, str] | None = None, code: str | None = None
) -> ErrorReply:
    """Read an error of Google's, from a body or a stream."""
    inner: Any = body[0] if isinstance(body, list) and body else body
    inner = inner.get("error", inner) if isinstance(inner, dict) else {}
    if not isinstance(inner, dict):
        return ErrorReply(error_message(inner) or "the vendor sent an error", status, headers=headers or {})
    codes = [str(inner.get("status") or code)] if inner.get("status") or code else []
    retry: float | None = None
    details = inner.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            if detail.get("reason"):
                codes.insert(0, str(detail["reason"]))
            if str(detail.get("@type", "")).endswith("RetryInfo"):
                retry = amount(str(detail.get("retryDelay")).removesuffix("s"))  # a protobuf duration: "3.5s"
            if "PerDay" in str(detail.get("violations")):  # in the name of a quota that was exceeded
                codes.insert(0, "quota_of_the_day")
    message = error_message(inner) or "the vendor sent an error"
    return ErrorReply(message, status, tuple(codes), headers or {}, retry)
