"""Gemini, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from ..events import FinishReason, ReasoningDelta, Usage, UsageReport
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
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from google.genai import Client


class _HandedOutError(Exception):
    """Carries a response past the SDK, which would take thirty times as long to read it. Never leaves this file."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response


async def _door(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """The SDK builds, signs and sends the request; a good answer is read here. Errors stay the SDK's to explain."""
    response = await handler(request)
    if response.status == 200:
        raise _HandedOutError(response)
    return response


class GoogleProvider:
    """Gemini models on Google's own wire."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings: Final = settings
        self._clients: Final = PerLoop(partial(_client, settings))

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        model = self.settings.vendor_model(ask.target.model)
        fields = body(ask.request, ask.target)
        decode = Decoder(ask.target).pieces
        with translated(ask.target, _answer_of, _transport_errors):
            client, connector = await self._clients.get()
            connector.connect_timeout = ask.connect_timeout
            try:
                async for _ in await client.aio.models.generate_content_stream(model=model, **fields):
                    break
            except _HandedOutError as handed_out:
                response = handed_out.response
            else:
                raise AssertionError("google-genai read the stream itself: its door for aiohttp middlewares is closed")
            try:
                headers = lower(response.headers)
                yield Opened(headers.get("x-request-id"), headers)
                async with aclosing(sse_pieces(response.content.iter_any(), decode, raw=ask.raw)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                response.close()

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _client(settings: ProviderSettings) -> AsyncGenerator[tuple[Client, Any], None]:
    genai = await asyncio.to_thread(import_module, "google.genai")  # half a second, the first time
    types, aiohttp = import_module("google.genai.types"), import_module("aiohttp")
    key = settings.api_key
    connector = _connector()
    session = aiohttp.ClientSession(middlewares=(_door,), connector=connector, trust_env=True)
    try:
        client = genai.Client(
            api_key=key.reveal() if key is not None else None,
            http_options=types.HttpOptions(
                base_url=settings.base_url,
                headers=dict(settings.headers),
                retry_options=types.HttpRetryOptions(attempts=1),
                aiohttp_client=session,
            ),
        )
        yield client, connector
    finally:
        await session.close()


def _connector() -> Any:
    """A connector with a clock of its own for connecting: the SDK passes none on, and would wait for minutes."""
    import aiohttp
    import attr

    class Connector(aiohttp.TCPConnector):
        connect_timeout: float | None = None

        async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
            return await super().connect(req, traces, attr.evolve(timeout, sock_connect=self.connect_timeout))

    return Connector(limit=CONNECTIONS)


def _transport_errors() -> tuple[type[BaseException], ...]:
    return (import_module("aiohttp").ClientError,)


def _answer_of(error: BaseException) -> Answer | None:
    """What a `google.genai.errors.APIError` says."""
    from google.genai.errors import APIError

    if not isinstance(error, APIError):
        return None
    return _answer(error.details, error.code, lower(getattr(error.response, "headers", None)), error.status)


def _answer(details: Any, status: int | None, headers: dict[str, str] | None = None, code: str | None = None) -> Answer:
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


# ── the request ────────────────────────────────────────────────────────────────────────────────────────────────────


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
        tools=[{"function_declarations": [_tool(tool) for tool in request.tools]}] if request.tools else None,
        tool_config=None if request.tool_choice is None else _tool_config(request.tool_choice),
        thinking_config=None if request.reasoning_effort is None else _thinking(request.reasoning_effort, target),
    )
    if request.response_format is not None:
        config["response_mime_type"] = "application/json"
        config["response_json_schema"] = Schema(request.response_format).schema
    if request.extra:
        config["http_options"] = {"extra_body": dict(request.extra)}
    names = {part.id: part.name for turn in turns for part in turn.parts if isinstance(part, ToolCallPart)}
    contents = [content for turn in turns if (content := _content(turn, names, target))["parts"]]
    return {"contents": contents, **given(config=config)}


def _content(message: Message, names: dict[str, str], target: Target) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case TextPart():
                if part.text:
                    parts.append({"text": part.text})
            case ReasoningPart():
                if part.signature is not None:
                    parts.append({"text": part.text, "thought": True, "thought_signature": part.signature})
            case ToolCallPart():
                arguments = msgspec.json.decode(part.arguments) if part.arguments.strip() else {}
                parts.append({"function_call": {"name": part.name, "args": arguments}})
            case ToolResultPart():
                result = {"error" if part.error else "result": part.result}
                name = part.name or names.get(part.id, "")
                parts.append({"function_response": {"name": name, "response": result}})
            case ImagePart() | AudioPart():
                raise cannot("an image" if isinstance(part, ImagePart) else "audio", target)
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _tool(given_tool: Any) -> dict[str, Any]:
    tool = Tool(given_tool)
    return {"name": tool.name, "parameters_json_schema": tool.parameters, **given(description=tool.description)}


def _tool_config(choice: Any) -> dict[str, Any]:
    name = tool_name(choice)
    mode = "ANY" if name is not None or choice == "required" else str(choice).upper()
    return {"function_calling_config": {"mode": mode, **given(allowed_function_names=[name] if name else None)}}


def _thinking(effort: str, target: Target) -> dict[str, Any]:
    if effort not in ("minimal", "low", "medium", "high"):
        raise cannot(f"the reasoning effort {effort!r}", target)
    return {"thinking_level": effort, "include_thoughts": True}


# ── the answer; only what is read is declared ──────────────────────────────────────────────────────────────────────


class _FunctionCall(Struct):
    name: str | None = None
    args: dict[str, Any] | None = None
    id: str | None = None


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


class _Chunk(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw()
    prompt_feedback: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode

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
        self._tools = ToolCalls()
        self._calls = 0
        self._counted = self._finished = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        if not data:
            return
        chunk = _decode(data)
        if chunk.error is not None:
            code = chunk.error.get("code")
            raise error_for(_answer(chunk.error, code if isinstance(code, int) else None), self._target)
        for candidate in chunk.candidates or ():
            if candidate.index == 0:
                yield from self._candidate(candidate)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.get("blockReason"):
            self._finished = True
            yield Finished("content_filter", str(chunk.prompt_feedback["blockReason"]))
        # The count comes with every event; it is read at the beginning, for the input's sake, and at the end.
        if chunk.usage_metadata and (self._finished or not self._counted):
            self._counted = True
            yield UsageReport(_usage(msgspec.json.decode(chunk.usage_metadata, type=dict[str, Any] | None) or {}))

    def _candidate(self, candidate: _Candidate) -> Iterable[Piece]:
        for part in (candidate.content and candidate.content.parts) or ():
            if part.thought:
                yield ReasoningDelta(part.text or "", part.thought_signature)
                continue
            if part.text:
                yield part.text
            if part.function_call is not None:
                yield from self._call(part.function_call)
            if part.thought_signature is not None:
                yield ReasoningDelta("", part.thought_signature)
        if candidate.finish_reason is not None:
            self._finished = True
            reason = _FINISH.get(candidate.finish_reason)
            if reason is None:
                raise error_for(Answer(f"the model stopped: {candidate.finish_reason}"), self._target)
            yield Finished("tool_calls" if self._calls and reason == "stop" else reason, candidate.finish_reason)

    def _call(self, call: _FunctionCall) -> Iterable[Piece]:
        key = self._calls
        self._calls += 1
        arguments = msgspec.json.encode(call.args or {}).decode()
        yield self._tools.fragment(key, call.id or f"call_{key}", call.name or "", arguments)
        if (whole := self._tools.whole(key)) is not None:
            yield whole


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
