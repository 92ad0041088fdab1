"""Google's wire: `streamGenerateContent`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..events import FinishReason, ProviderEvent, ReasoningDelta, ToolCallDelta, Usage, UsageReport
from ..provider import Finished, Piece
from ..tasks import (
    AudioPart,
    ImagePart,
    Message,
    ReasoningPart,
    Target,
    TaskRequest,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from .errors import Answer, error_for, said
from .partial_arguments import PartialArgument, PartialArguments
from .reading import new_id, whole_call
from .requests import Schema, Tool, arguments_of, cannot, given, split_system, tool_name


def body(request: TaskRequest, target: Target) -> dict[str, Any]:
    """The request on this wire, which has no place for metadata."""
    if request.metadata:
        raise cannot("metadata", target)
    system, turns = split_system(request)
    config = given(
        system_instruction=system,
        temperature=request.temperature,
        top_p=request.top_p,
        max_output_tokens=request.max_tokens,
        stop_sequences=list(request.stop) or None,
        seed=request.seed,
        tools=_tools(request.tools, target) or None,
        tool_config=None if request.tool_choice is None else _tool_config(request.tool_choice),
        thinking_config=None if request.reasoning_effort is None else _thinking(request.reasoning_effort, target),
    )
    if request.response_format is not None:
        config["response_mime_type"] = "application/json"
        schema = Schema(request.response_format)
        if not schema.any_json:
            config["response_json_schema"] = schema.schema
    if request.extra:
        config["http_options"] = {"extra_body": dict(request.extra)}
    names = {part.id: part.name for turn in turns for part in turn.parts if isinstance(part, ToolCallPart)}
    contents = [content for turn in turns if (content := _content(turn, names, target))["parts"]]
    return {"contents": contents, **given(config=config)}


def _content(message: Message, names: dict[str, str], target: Target) -> dict[str, Any]:
    """A turn with its parts. A signature without words of its own belongs to the part after it."""
    parts: list[dict[str, Any]] = []
    signature: dict[str, Any] = {}
    for part in message.parts:
        match part:
            case TextPart():
                if part.text:
                    parts.append({"text": part.text, **signature})
                    signature = {}
            case ReasoningPart():
                if part.signature is not None and part.text:
                    parts.append({"text": part.text, "thought": True, "thought_signature": part.signature})
                elif part.signature is not None:
                    signature = {"thought_signature": part.signature}
            case ToolCallPart():
                parts.append({"function_call": {"name": part.name, "args": arguments_of(part)}, **signature})
                signature = {}
            case ToolResultPart():
                result = {"error" if part.error else "result": part.result}
                name = part.name or names.get(part.id, "")
                parts.append({"function_response": {"name": name, "response": result}})
            case ImagePart() | AudioPart():
                raise cannot("an image" if isinstance(part, ImagePart) else "audio", target)
    if signature:
        parts.append({"text": "", **signature})
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _tools(given_tools: tuple[Any, ...], target: Target) -> list[dict[str, Any]]:
    """One list of functions, and beside it the vendor's own tools, which bear no name: `{"google_search": {}}`."""
    own = [dict(tool) for tool in given_tools if isinstance(tool, dict) and not {"name", "function"} & set(tool)]
    functions = [_function(Tool(tool), target) for tool in given_tools if tool not in own]
    return [*([{"function_declarations": functions}] if functions else []), *own]


def _function(tool: Tool, target: Target) -> dict[str, Any]:
    if tool.strict:
        raise cannot(f"a strict tool ({tool.name!r})", target)
    return {"name": tool.name, "parameters_json_schema": tool.parameters, **given(description=tool.description)}


def _tool_config(choice: Any) -> dict[str, Any]:
    name = tool_name(choice)
    mode = "ANY" if name is not None or choice == "required" else str(choice).upper()
    return {"function_calling_config": {"mode": mode, **given(allowed_function_names=[name] if name else None)}}


def _thinking(effort: str, target: Target) -> dict[str, Any]:
    if effort == "none":
        return {"thinking_budget": 0}
    if effort == "max":
        raise cannot("the reasoning effort 'max'", target)
    return {"thinking_level": effort, "include_thoughts": True}


# ── the answer; only what is read is declared ──────────────────────────────────────────────────────────────────────


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
    index: int = 0
    grounding_metadata: dict[str, Any] | None = None
    citation_metadata: dict[str, Any] | None = None
    url_context_metadata: dict[str, Any] | None = None


class _Chunk(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw()
    prompt_feedback: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode

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
    """One stream's decoder. Its last usage and its finish reason come with content, in the same event."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: _OpenCall | None = None
        self._called = self._counted = self._finished = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if not data:
            return ()
        chunk = _decode(data)
        candidates = chunk.candidates
        # Nearly every chunk is text and nothing else.
        if candidates and len(candidates) == 1 and self._counted and chunk.error is None:
            text = _plain_text(candidates[0])
            if text and chunk.prompt_feedback is None:
                return (text,)
        return self._others(chunk, data)

    def _others(self, chunk: _Chunk, data: bytes) -> Iterable[Piece]:
        if chunk.error is not None:
            code = chunk.error.get("code")
            raise error_for(answer(chunk.error, code if isinstance(code, int) else None), self._target)
        for candidate in chunk.candidates or ():
            if candidate.index == 0:
                yield from self._candidate(candidate, data)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.get("blockReason"):
            self._finished = True
            yield Finished("content_filter", str(chunk.prompt_feedback["blockReason"]))
        # The count comes with every event; it is read at the beginning, for the input's sake, and at the end.
        if chunk.usage_metadata and (self._finished or not self._counted):
            self._counted = True
            yield UsageReport(_usage(msgspec.json.decode(chunk.usage_metadata, type=dict[str, Any] | None) or {}))

    def _candidate(self, candidate: _Candidate, data: bytes) -> Iterable[Piece]:
        for number, part in enumerate((candidate.content and candidate.content.parts) or ()):
            if part.thought:
                yield ReasoningDelta(part.text or "", part.thought_signature)
                continue
            if part.thought_signature is not None:
                yield ReasoningDelta("", part.thought_signature)  # of the part that follows
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
            self._finished = True
            if self._open is not None:
                yield from self._whole(self._open)
            reason = _FINISH.get(candidate.finish_reason, "stop")
            yield Finished("tool_calls" if self._called and reason == "stop" else reason, candidate.finish_reason)

    def _call(self, call: _FunctionCall) -> Iterable[Piece]:
        """A call, whole or in pieces: the first piece has the name, the last does not say that more will come."""
        self._called = True
        if self._open is not None and call.name is not None:
            yield from self._whole(self._open)
        current = self._open = self._open or _OpenCall(call.id or new_id(), call.name or "")
        current.arguments.value.update(call.args or {})
        for part in call.partial_args or ():
            current.arguments.add(part)
        if call.will_continue:
            yield ToolCallDelta(current.id, current.name, "")  # a sign of life: a value's path is no piece of JSON
        else:
            yield from self._whole(current)

    def _whole(self, call: _OpenCall) -> Iterable[Piece]:
        self._open = None
        arguments = msgspec.json.encode(call.arguments.value).decode()
        yield ToolCallDelta(call.id, call.name, arguments)
        yield whole_call(call.id, call.name, arguments)


def _plain_text(candidate: _Candidate) -> str | None:
    """The text, where there is nothing beside it."""
    parts = candidate.content.parts if candidate.content is not None else None
    if (
        parts is None
        or len(parts) != 1
        or candidate.finish_reason is not None
        or candidate.index != 0
        or candidate.grounding_metadata is not None
        or candidate.citation_metadata is not None
        or candidate.url_context_metadata is not None
    ):
        return None
    part = parts[0]
    return None if part.thought or part.thought_signature is not None else part.text


class _OpenCall:
    """A call whose arguments may come in pieces."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self, id: str, name: str) -> None:  # noqa: A002 - the event's own word
        self.id = id
        self.name = name
        self.arguments = PartialArguments()


def _unknown(data: bytes, number: int) -> Iterable[Piece]:
    """A part that is neither text nor a call, such as code that the vendor ran: it is told as it came."""
    candidates = msgspec.json.decode(data)["candidates"]
    part = next(candidate for candidate in candidates if not candidate.get("index"))["content"]["parts"][number]
    for name, value in part.items():
        if isinstance(value, dict):
            yield ProviderEvent(name, value)


def _usage(said_now: dict[str, Any]) -> Usage:
    """Google counts what the model wrote and what it thought apart; our output is both."""
    thoughts = said_now.get("thoughtsTokenCount") or 0
    return Usage(
        input_tokens=(said_now.get("promptTokenCount") or 0) + (said_now.get("toolUsePromptTokenCount") or 0),
        output_tokens=(said_now.get("candidatesTokenCount") or 0) + thoughts,
        reasoning_tokens=thoughts,
        cache_read_tokens=said_now.get("cachedContentTokenCount") or 0,
        source="reported",
        raw=said_now,
    )


def answer(details: Any, status: int | None, headers: dict[str, str] | None = None, code: str | None = None) -> Answer:
    inner: Any = details[0] if isinstance(details, list) and details else details
    inner = inner.get("error", inner) if isinstance(inner, dict) else {}
    codes = [str(inner.get("status") or code)] if inner.get("status") or code else []
    retry: float | None = None
    for detail in inner.get("details") or ():
        if isinstance(detail, dict):
            if detail.get("reason"):
                codes.insert(0, str(detail["reason"]))
            if str(detail.get("@type", "")).endswith("RetryInfo"):
                retry = _seconds(detail.get("retryDelay"))
    message = said(inner) or "the vendor sent an error"
    return Answer(message, status, tuple(codes), headers or {}, retry)


def _seconds(duration: object) -> float | None:
    """A protobuf duration in JSON: "3.5s"."""
    try:
        return float(str(duration).removesuffix("s"))
    except ValueError:
        return None
