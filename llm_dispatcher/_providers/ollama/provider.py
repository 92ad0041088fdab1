"""Ollama's native chat. It has no official client among our dependencies: one POST, answered line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import msgspec
from msgspec import Struct

from ..._importing import importing
from ..._policy import ProviderSettings
from ..._usage import Usage, UsageSource
from ..._vendors.table import vendor
from ..._wire import NDJSONDecoder
from ...events import FinishReason, ReasoningDelta, ToolCallDelta, UsageReport
from ...provider import Ask, Finished, Piece
from ...tasks import Target
from ..base.clients import PerLoop
from ..base.decoding import Answering, lower, new_id, pieces_of, tokens, whole_call
from ..base.encoding import encoded
from ..base.errors import Answer, RefusedError, answer_in, error_for, said, translated
from ..base.options import check_options, max_event_bytes
from ..base.tls import trust
from ..base.transport import reader
from . import chat_request as ollama_request

if TYPE_CHECKING:
    from aiohttp import ClientSession

_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Where Ollama mostly is, and where no proxy leads."""


class OllamaProvider:
    """Models that run at home."""

    def __init__(self, settings: ProviderSettings) -> None:
        check_options(settings)
        self.settings: Final = settings
        self._url: Final = (settings.base_url or vendor("ollama").base_url or "").rstrip("/") + "/api/chat"
        self._cap: Final = max_event_bytes(settings)
        self._clients: Final = PerLoop(partial(_client, settings))

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        translating = translated(ask, _answer_of, _transport_errors)
        return pieces_of(partial(self._send, ask), Decoder(ask.target), translating, raw=ask.raw)

    async def _send(self, ask: Ask) -> Answering:
        fields = ollama_request.body(ask.request, self.settings.vendor_model(ask.target.model), ask.target)
        session = await self._clients.get()
        timeout = import_module("aiohttp").ClientTimeout(total=None, sock_connect=ask.connect_timeout)
        response = await session.post(self._url, data=encoded(fields), timeout=timeout)
        headers = lower(response.headers)
        if response.status != 200:
            try:
                raise RefusedError(_answer(await response.read(), response.status, headers))
            finally:
                response.close()
        return Answering(None, headers, NDJSONDecoder(cap=self._cap), response, reader(response))

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _client(settings: ProviderSettings) -> AsyncGenerator[ClientSession, None]:
    connections = import_module("llm_dispatcher._providers.base.connections")
    key = settings.api_key
    headers = {"content-type": "application/json"} | {name.lower(): value for name, value in settings.headers.items()}
    if key is not None:
        headers["authorization"] = f"Bearer {key.reveal()}"
    address = urlsplit(settings.base_url or vendor("ollama").base_url or "")
    encrypted = address.scheme == "https"
    trusted = await asyncio.to_thread(importing, trust) if encrypted else True
    connector = connections.Connector(ssl=trusted)
    proxied = address.hostname not in _HERE and bool(getproxies())
    async with connections.session(connector, headers=headers, trust_env=proxied) as session:
        yield session


def _transport_errors() -> tuple[type[BaseException], ...]:
    return (import_module("aiohttp").ClientError,)


def _answer_of(_: BaseException) -> Answer | None:
    """Nothing more: an HTTP error is a `RefusedError` already."""
    return None


def _answer(data: bytes, status: int, headers: dict[str, str]) -> Answer:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        value = None
    return Answer(said(value) or data[:200].decode("utf-8", "replace"), status, headers=headers)


class _Function(Struct):
    name: str | None = None
    arguments: Any = None


class _ToolCall(Struct):
    function: _Function | None = None
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(Struct):
    message: _Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Line).decode

_FINISH: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length"}


class Decoder:
    """One stream's decoder."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._called = False
        self.ended = False

    def pieces(self, data: bytes) -> Iterable[Piece]:
        line = _decode(data)
        if line.error:
            raise error_for(answer_in(line.error), self._target)
        if (message := line.message) is not None:
            if message.thinking:
                yield ReasoningDelta(message.thinking)
            if message.content:
                yield message.content
            for call in message.tool_calls or ():
                self._called = True
                function = call.function or _Function()
                arguments = msgspec.json.encode(function.arguments or {}).decode()
                id, name = call.id or new_id(), function.name or ""  # noqa: A001 - the event's own word
                yield ToolCallDelta(id, name, arguments)
                yield whole_call(id, name, arguments)
        if line.done:
            self.ended = True
            reason = _FINISH.get(line.done_reason or "stop", "stop")
            yield Finished("tool_calls" if self._called and reason == "stop" else reason, line.done_reason)
            if line.prompt_eval_count is not None or line.eval_count is not None:
                counted = {"prompt_eval_count": line.prompt_eval_count, "eval_count": line.eval_count}
                read, wrote = tokens(counted, "prompt_eval_count"), tokens(counted, "eval_count")
                source: UsageSource = "unknown" if line.prompt_eval_count is None else "reported"
                yield UsageReport(Usage(read, wrote, source=source, raw=counted))
