"""Anthropic's messages, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from ..events import FinishReason, ProviderEvent, ReasoningDelta, Usage, UsageReport
from ..exceptions import ConfigurationError
from ..provider import Ask, Finished, Opened, Piece, ProviderSettings
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
from .clients import PerLoop
from .errors import Answer, error_for, translated
from .openai import CONNECTIONS, said
from .reading import ToolCalls, lower, sse_pieces
from .requests import Schema, Tool, cannot, given, split_system, tool_name

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

MAX_TOKENS: Final = 4096
"""This wire wants a limit in every request; this is the one where the request has none (option `max_tokens`)."""


class AnthropicProvider:
    """Claude models on Anthropic's own wire."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings: Final = settings
        self._max_tokens: Final = settings.options.get("max_tokens", MAX_TOKENS)
        if not isinstance(self._max_tokens, int) or self._max_tokens < 1:
            raise ConfigurationError(
                "max_tokens is an int of 1 or more", key=f"providers.{settings.name}.options.max_tokens"
            )
        self._clients: Final = PerLoop(partial(_client, settings))

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        model = self.settings.vendor_model(ask.target.model)
        fields = body(ask.request, model, ask.target, self._max_tokens)
        decode = Decoder(ask.target).pieces
        with translated(ask.target, _answer_of, _transport_errors):
            client = await self._clients.get()
            timeout = import_module("httpx2").Timeout(None, connect=ask.connect_timeout)
            opening = client.messages.with_streaming_response.create(**fields, stream=True, timeout=timeout)
            async with opening as response:
                headers = lower(response.headers)
                yield Opened(headers.get("request-id"), headers)
                async with aclosing(sse_pieces(response.iter_bytes(), decode, raw=ask.raw)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _client(settings: ProviderSettings) -> AsyncGenerator[AsyncAnthropic, None]:
    anthropic = await asyncio.to_thread(import_module, "anthropic")  # a second, the first time
    httpx = import_module("httpx2")
    key = settings.api_key
    client: AsyncAnthropic = anthropic.AsyncAnthropic(
        api_key=key.reveal() if key is not None else None,
        base_url=settings.base_url,
        default_headers=dict(settings.headers),
        max_retries=0,
        http_client=anthropic.DefaultAioHttpClient(limits=httpx.Limits(max_connections=CONNECTIONS)),
    )
    try:
        yield client
    finally:
        await client.close()


def _transport_errors() -> tuple[type[BaseException], ...]:
    aiohttp, httpx = import_module("aiohttp"), import_module("httpx2")
    return (aiohttp.ClientError, httpx.TransportError)


def _answer_of(error: BaseException) -> Answer | None:
    """What an `anthropic.APIStatusError` says."""
    import anthropic

    if not isinstance(error, anthropic.APIStatusError):
        return None
    body: Any = error.body
    inner = body.get("error") if isinstance(body, dict) else None
    code = inner.get("type") if isinstance(inner, dict) else None
    return Answer(
        message=said(error.body) or error.message,
        status=error.status_code,
        codes=(code,) if isinstance(code, str) else (),
        headers=lower(error.response.headers),
    )


# ── the request ────────────────────────────────────────────────────────────────────────────────────────────────────


def body(request: TaskRequest, model: str, target: Target, max_tokens: int) -> dict[str, Any]:
    """The request on this wire, which has no place for a seed and takes of metadata the user's id only."""
    if request.seed is not None:
        raise cannot("a seed", target)
    if extra_metadata := set(request.metadata) - {"user_id"}:
        raise cannot(f"metadata other than user_id ({', '.join(sorted(extra_metadata))})", target)
    system, turns = split_system(request)
    output: dict[str, Any] = given(effort=request.reasoning_effort)
    if request.response_format is not None:
        output["format"] = {"type": "json_schema", "schema": Schema(request.response_format).schema}
    return given(
        model=model,
        max_tokens=request.max_tokens or max_tokens,
        messages=_turns(turns, target),
        system=system,
        stop_sequences=list(request.stop) or None,
        metadata=dict(request.metadata) or None,
        tools=[_tool(tool) for tool in request.tools] or None,
        tool_choice=None if request.tool_choice is None else _tool_choice(request.tool_choice),
        output_config=output or None,
        # The SDK has no parameters for these any more, since newer models refuse them; older models take them still.
        extra_body=given(temperature=request.temperature, top_p=request.top_p) | dict(request.extra) or None,
    )


def _turns(messages: list[Message], target: Target) -> list[dict[str, Any]]:
    """Turns with their blocks; tool results are a user's turn here, and turns of the same role are one."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts if (block := _block(part, target)) is not None]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _block(part: Any, target: Target) -> dict[str, Any] | None:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text} if part.text else None
        case ReasoningPart():
            if part.signature is None:
                return None  # without its signature this vendor refuses it
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case ToolCallPart():
            arguments = msgspec.json.decode(part.arguments) if part.arguments.strip() else {}
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case ToolResultPart():
            return {"type": "tool_result", "tool_use_id": part.id, "content": part.result, "is_error": part.error}
        case ImagePart() | AudioPart():
            raise cannot("an image" if isinstance(part, ImagePart) else "audio", target)
        case _:
            raise cannot(type(part).__name__, target)


def _tool(given_tool: Any) -> dict[str, Any]:
    tool = Tool(given_tool)
    return {"name": tool.name, "input_schema": tool.parameters, **given(description=tool.description)}


def _tool_choice(choice: Any) -> dict[str, Any]:
    name = tool_name(choice)
    if name is not None:
        return {"type": "tool", "name": name}
    return {"type": "any" if choice == "required" else choice}


# ── the answer; only what is read is declared ──────────────────────────────────────────────────────────────────────


class _Delta(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None


class _Block(Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class _Message(Struct):
    usage: dict[str, Any] | None = None


class _Event(Struct):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    request_id: str | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode

_FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
}


class Decoder:
    """One stream's decoder."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tools = ToolCalls()
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if not data:
            return ()
        event = _decode(data)
        # Nearly every event is this one.
        if event.type == "content_block_delta" and event.delta is not None and event.delta.type == "text_delta":
            return (event.delta.text,)
        return self._others(event, data)

    def _others(self, event: _Event, data: bytes) -> Iterable[Piece]:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                yield from self._delta(event.delta, event.index)
            case "content_block_start" if event.content_block is not None:
                yield from self._start(event.content_block, event.index, data)
            case "content_block_stop":
                if (call := self._tools.whole(event.index)) is not None:
                    yield call
            case "message_start" if event.message is not None:
                yield from self._count(event.message.usage)
            case "message_delta":
                yield from self._count(event.usage)
                if event.delta is not None:
                    self._stop_reason = event.delta.stop_reason or self._stop_reason
            case "message_stop":
                reason = self._stop_reason
                yield Finished(_FINISH.get(reason or "", "stop"), reason)
            case "error":
                error = event.error or {}
                codes = (str(error["type"]),) if error.get("type") else ()
                message = str(error.get("message") or "the vendor sent an error")
                raise error_for(Answer(message, codes=codes, request_id=event.request_id), self._target)
            case _:
                return

    def _start(self, block: _Block, index: int, data: bytes) -> Iterable[Piece]:
        match block.type:
            case "text":
                if block.text:
                    yield block.text
            case "thinking":
                if block.thinking:
                    yield ReasoningDelta(block.thinking)
            case "tool_use":
                whole = msgspec.json.encode(block.input).decode() if block.input else ""
                yield self._tools.fragment(index, block.id, block.name, whole)
            case kind:
                yield ProviderEvent(kind, msgspec.json.decode(data)["content_block"])

    def _delta(self, delta: _Delta, index: int) -> Iterable[Piece]:
        match delta.type:
            case "thinking_delta":
                yield ReasoningDelta(delta.thinking)
            case "signature_delta":
                yield ReasoningDelta("", signature=delta.signature)
            case "input_json_delta" if index in self._tools:
                yield self._tools.fragment(index, "", "", delta.partial_json)
            case "citations_delta":
                yield ProviderEvent("citation", delta.citation or {})
            case _:
                return

    def _count(self, said_now: dict[str, Any] | None) -> Iterable[Piece]:
        """Counts are cumulative: what is said later stands, what is not said again stays."""
        if said_now is None:
            return
        self._usage.update({name: value for name, value in said_now.items() if value is not None})
        yield UsageReport(_usage(dict(self._usage)))


def _usage(said_so_far: dict[str, Any]) -> Usage:
    """Anthropic counts the input without what was read from or written to its cache; ours includes both."""
    read = said_so_far.get("cache_read_input_tokens") or 0
    written = said_so_far.get("cache_creation_input_tokens") or 0
    details = said_so_far.get("output_tokens_details") or {}
    return Usage(
        input_tokens=(said_so_far.get("input_tokens") or 0) + read + written,
        output_tokens=said_so_far.get("output_tokens") or 0,
        reasoning_tokens=details.get("thinking_tokens") or details.get("reasoning_tokens") or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
        source="reported",
        raw=said_so_far,
    )
