"""Anthropic, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ..._importing import importing
from ..._policy import ProviderSettings
from ..._vendors import adapters
from ..._vendors.table import vendor
from ..._wire import SSEDataDecoder
from ...exceptions import ConfigurationError
from ...provider import Ask, Piece
from ..base.clients import CONNECTIONS, PerLoop
from ..base.decoding import Answering, lower, pieces_of
from ..base.encoding import as_it_is
from ..base.errors import Answer, answer_in, said, translated
from ..base.options import check_options, headers_of, max_event_bytes, required_key
from ..base.tls import trust
from ..base.transport import readable, reader, response_to
from . import messages as anthropic_messages
from . import messages_request as anthropic_request

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

MAX_TOKENS: Final = 4096
"""This wire wants a limit in every request; this is the one where the request has none (option `max_tokens`)."""


class AnthropicProvider:
    """Claude models on Anthropic's own wire."""

    def __init__(self, settings: ProviderSettings) -> None:
        check_options(settings, "max_tokens")
        self.settings: Final = settings
        self.max_tokens: Final = settings.options.get("max_tokens", MAX_TOKENS)
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise ConfigurationError("is an int of 1 or more", key=f"providers.{settings.name}.options.max_tokens")
        self._cap: Final = max_event_bytes(settings)
        self._clients: Final = PerLoop(partial(_client, settings))

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        translating = translated(ask, _answer_of, _transport_errors)
        return pieces_of(partial(self._send, ask), anthropic_messages.Decoder(ask.target), translating, raw=ask.raw)

    async def _send(self, ask: Ask) -> Answering:
        model = self.settings.vendor_model(ask.target.model)
        body = anthropic_request.body(ask.request, model, ask.target, self.max_tokens)
        body = as_it_is(body, messages=(), max_tokens=body["max_tokens"])
        client = await self._clients.get()
        # Only the transport can tell that a connection is being made; all other clocks are the loop's.
        timeout = import_module("httpx2").Timeout(None, connect=ask.connect_timeout)
        response = await response_to(
            client.messages.with_streaming_response.create(**body, stream=True, timeout=timeout)
        )
        headers = lower(response.headers)
        splitter = SSEDataDecoder(cap=self._cap)
        return Answering(headers.get("request-id"), headers, splitter, response, reader(response))

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _client(settings: ProviderSettings) -> AsyncGenerator[AsyncAnthropic, None]:
    client = await asyncio.to_thread(importing, _made, settings)
    try:
        yield client
    finally:
        await client.close()


def _made(settings: ProviderSettings) -> AsyncAnthropic:
    """In a thread: the first time, the SDK takes a second to load."""
    import anthropic
    import httpx2

    from ..base.connections import over_our_sessions

    client = anthropic.AsyncAnthropic(
        api_key=required_key(settings),
        base_url=settings.base_url or vendor("anthropic").base_url,  # without one the SDK reads the environment
        default_headers=readable(headers_of(settings, adapters.ANTHROPIC, anthropic.Omit())),
        max_retries=0,
        http_client=over_our_sessions(
            anthropic.DefaultAioHttpClient(verify=trust(), limits=httpx2.Limits(max_connections=CONNECTIONS))
        ),
    )
    _ = client.messages
    return client


def _transport_errors() -> tuple[type[BaseException], ...]:
    import aiohttp
    import httpx2

    return (aiohttp.ClientError, httpx2.RequestError)


def _answer_of(error: BaseException) -> Answer | None:
    """What an `anthropic.APIStatusError` says."""
    import anthropic

    if not isinstance(error, anthropic.APIStatusError):
        return None
    body: object = error.body
    answer = answer_in(body.get("error", body) if isinstance(body, dict) else body)
    return Answer(
        said(body) or error.message, error.status_code, answer.codes, lower(error.response.headers), param=answer.param
    )
