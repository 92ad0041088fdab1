"""The chat completions wire, as OpenAI and many other hosts speak it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..events import FinishReason, ProviderEvent, ReasoningDelta, Usage, UsageReport
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
from .errors import Answer, error_for
from .reading import DONE, ToolCalls
from .requests import Schema, Tool, cannot, given, tool_name


def body(request: TaskRequest, model: str, target: Target, *, official: bool) -> dict[str, Any]:
    """The request on this wire. Only the official host knows `max_completion_tokens`; others know its older name."""
    messages: list[dict[str, Any]] = []
    if request.system is not None:
        messages.append({"role": "system", "content": request.system})
    for message in request.conversation:
        messages.extend(_messages(message, target))
    return given(
        model=model,
        messages=messages,
        stream_options={"include_usage": True},
        temperature=request.temperature,
        top_p=request.top_p,
        stop=list(request.stop) or None,
        seed=request.seed,
        reasoning_effort=request.reasoning_effort,
        metadata=dict(request.metadata) or None,
        tools=[_tool(tool) for tool in request.tools] or None,
        tool_choice=None if request.tool_choice is None else _tool_choice(request.tool_choice),
        response_format=None if request.response_format is None else _response_format(request.response_format),
        extra_body=dict(request.extra) or None,
        **{"max_completion_tokens" if official else "max_tokens": request.max_tokens},
    )


def _messages(message: Message, target: Target) -> Iterable[dict[str, Any]]:
    """One of our messages may be several on this wire: each tool result is one of its own."""
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case TextPart():
                text.append(part.text)
            case ToolCallPart():
                function = {"name": part.name, "arguments": part.arguments}
                calls.append({"id": part.id, "type": "function", "function": function})
            case ToolResultPart():
                yield {"role": "tool", "tool_call_id": part.id, "content": part.result}
            case ReasoningPart():
                continue  # this wire takes no reasoning back; it is the model's own note, no part of the conversation
            case ImagePart() | AudioPart():
                raise cannot("an image" if isinstance(part, ImagePart) else "audio", target)
    if text or calls:
        yield {"role": message.role, "content": "".join(text) or None, **given(tool_calls=calls or None)}


def _tool(given_tool: Any) -> dict[str, Any]:
    tool = Tool(given_tool)
    function = given(description=tool.description, parameters=tool.parameters, strict=tool.strict)
    return {"type": "function", "function": {"name": tool.name, **function}}


def _tool_choice(choice: Any) -> Any:
    name = tool_name(choice)
    return choice if name is None else {"type": "function", "function": {"name": name}}


def _response_format(wanted: Any) -> dict[str, Any]:
    schema = Schema(wanted)
    inner = {"name": schema.name, "schema": schema.schema, "strict": schema.strict}
    return {"type": "json_schema", "json_schema": inner}


# ── the answer; only what is read is declared ──────────────────────────────────────────────────────────────────────


class _Function(Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolCall(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode

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
    """One stream's decoder."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tools = ToolCalls()
        self._refused = False
        self._finished = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if data == DONE or not data:
            return ()
        chunk = _decode(data)
        if chunk.choices and chunk.usage is None and chunk.error is None and len(chunk.choices) == 1:
            choice = chunk.choices[0]
            delta = choice.delta
            # Nearly every chunk is this one.
            if (
                delta is not None
                and type(delta.content) is str
                and choice.finish_reason is None
                and delta.tool_calls is None
                and delta.reasoning_content is None
                and choice.index == 0
            ):
                return (delta.content,)
        return self._others(chunk)

    def _others(self, chunk: _Chunk) -> Iterable[Piece]:
        if chunk.error is not None:
            raise error_for(_answer(chunk.error), self._target)
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue  # the request asks for one answer; who wants several reads the raw events
            if choice.delta is not None:
                yield from self._delta(choice.delta)
            if choice.finish_reason and not self._finished:
                self._finished = True
                yield from self._tools.all()
                reason = _FINISH.get(choice.finish_reason, "stop")
                yield Finished("refusal" if self._refused and reason == "stop" else reason, choice.finish_reason)
        if chunk.usage is not None:
            yield UsageReport(usage(chunk.usage))

    def _delta(self, delta: _Delta) -> Iterable[Piece]:
        thought = delta.reasoning_content or delta.reasoning
        if thought:
            yield ReasoningDelta(thought)
        if delta.refusal:
            self._refused = True
            yield ProviderEvent("refusal", {"text": delta.refusal})
        if isinstance(delta.content, str):
            if delta.content:
                yield delta.content
        elif delta.content:
            yield from _parts(delta.content)
        for call in delta.tool_calls or ():
            function = call.function or _Function()
            arguments = function.arguments
            if not isinstance(arguments, str):
                arguments = "" if arguments is None else msgspec.json.encode(arguments).decode()
            key = self._key(call)
            yield self._tools.fragment(key, call.id or "", function.name or "", arguments)

    def _key(self, call: _ToolCall) -> object:
        """Which call a fragment belongs to: hosts differ in whether they send an index, an id, or both."""
        if call.index is not None:
            return call.index
        if call.id:
            return call.id
        named = call.function is not None and call.function.name
        return object() if named or self._tools.latest() is None else self._tools.latest()


def _parts(parts: list[dict[str, Any]]) -> Iterable[Piece]:
    """Content as a list, as Mistral's thinking models send it."""
    for part in parts:
        match part.get("type"):
            case "text":
                yield str(part.get("text", ""))
            case "thinking":
                inner = part.get("thinking")
                for thought in inner if isinstance(inner, list) else [{"text": inner}]:
                    if thought.get("text"):
                        yield ReasoningDelta(str(thought["text"]))
            case kind:
                yield ProviderEvent(str(kind), part)


def usage(said: dict[str, Any]) -> Usage:
    """OpenAI's count: the prompt includes what was cached, the completion includes reasoning."""
    prompt = said.get("prompt_tokens_details") or {}
    completion = said.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=said.get("prompt_tokens") or 0,
        output_tokens=said.get("completion_tokens") or 0,
        reasoning_tokens=completion.get("reasoning_tokens") or 0,
        cache_read_tokens=prompt.get("cached_tokens") or 0,
        source="reported",
        raw=said,
    )


def _answer(error: Any) -> Answer:
    if not isinstance(error, dict):
        return Answer(str(error))
    status = error.get("code") if isinstance(error.get("code"), int) else error.get("status")
    codes = tuple(str(error[name]) for name in ("code", "type") if error.get(name))
    return Answer(str(error.get("message", error)), status if isinstance(status, int) else None, codes)
