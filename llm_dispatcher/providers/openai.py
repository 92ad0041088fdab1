"""OpenAI and the many hosts that speak its chat wire, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..provider import Ask, Opened, Piece, ProviderSettings
from . import openai_chat, openai_responses
from .clients import PerLoop
from .errors import Answer, translated
from .reading import lower, sse_pieces

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECTIONS: Final = 20_000
"""A stream holds its connection for as long as it lasts; with the usual 100, streams would wait for streams."""


class OpenAIProvider:
    """`api: responses` is the default on the official host, `chat` on others."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings: Final = settings
        official = settings.kind == "openai" and settings.base_url is None
        self._chat: Final = (settings.api or ("responses" if official else "chat")) == "chat"
        self._official: Final = settings.kind == "openai"
        self._clients: Final = PerLoop(partial(_client, settings))

    async def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        model = self.settings.vendor_model(ask.target.model)
        if self._chat:
            body = openai_chat.body(ask.request, model, ask.target, official=self._official)
            decode = openai_chat.Decoder(ask.target).pieces
        else:
            body = openai_responses.body(ask.request, model, ask.target)
            decode = openai_responses.Decoder(ask.target).pieces
        with translated(ask.target, _answer_of, _transport_errors):
            client = await self._clients.get()
            timeout = _timeout(ask.connect_timeout)
            resource = client.chat.completions if self._chat else client.responses
            opening = resource.with_streaming_response.create(**body, stream=True, timeout=timeout)
            async with opening as response:
                headers = lower(response.headers)
                yield Opened(headers.get("x-request-id"), headers)
                async with aclosing(sse_pieces(response.iter_bytes(), decode, raw=ask.raw)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _client(settings: ProviderSettings) -> AsyncGenerator[AsyncOpenAI, None]:
    openai = await asyncio.to_thread(import_module, "openai")  # half a second, the first time
    httpx = import_module("httpx2")
    key = settings.api_key
    client: AsyncOpenAI = openai.AsyncOpenAI(
        api_key=key.reveal() if key is not None else "none",
        base_url=settings.base_url,
        default_headers=dict(settings.headers),
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(limits=httpx.Limits(max_connections=CONNECTIONS)),
    )
    try:
        yield client
    finally:
        await client.close()


def _timeout(connect: float | None) -> Any:
    """Only the transport can tell that a connection is being made; all other clocks are the loop's."""
    return import_module("httpx2").Timeout(None, connect=connect)


def _transport_errors() -> tuple[type[BaseException], ...]:
    aiohttp, httpx = import_module("aiohttp"), import_module("httpx2")
    return (aiohttp.ClientError, httpx.TransportError)


def _answer_of(error: BaseException) -> Answer | None:
    """What an `openai.APIStatusError` says."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return None
    return Answer(
        message=said(error.body) or error.message,
        status=error.status_code,
        codes=tuple(str(code) for code in (error.code, error.type) if code),
        headers=lower(error.response.headers),
    )


def said(body: object) -> str | None:
    """The vendor's own sentence in an error's body."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, Mapping) else inner
        return message if isinstance(message, str) else None
    return None
