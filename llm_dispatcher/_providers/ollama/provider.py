"""Ollama's native chat. None of our dependencies is a client for it: it is one POST, answered line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import msgspec

from ..._importing import importing
from ..._policy import ProviderSettings
from ..._vendors import adapters
from ..._vendors.table import vendor
from ..._wire import NDJSONDecoder
from ...notices import Notify
from ...provider import Ask
from ...provider._decoding import Decoder, OpenResponse, lower
from ...provider._errors import ErrorReply, RefusedError, error_message
from ..base.encoding import encoded
from ..base.provider import VendorProvider
from ..base.tls import trust
from ..base.transport import opened
from . import chat, chat_request

if TYPE_CHECKING:
    from aiohttp import ClientSession

_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are never reached through a proxy."""


class OllamaProvider(VendorProvider["ClientSession"]):
    """Models on an Ollama server."""

    adapter = adapters.OLLAMA

    @classmethod
    async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[ClientSession, None]:
        connections = import_module("llm_dispatcher._providers.base.connections")
        headers = {"content-type": "application/json"}
        headers |= {name.lower(): value for name, value in settings.headers.items()}
        if settings.api_key is not None:
            headers["authorization"] = f"Bearer {settings.api_key.reveal()}"
        address = urlsplit(_address(settings))
        context = await asyncio.to_thread(importing, trust) if address.scheme == "https" else True
        connector = connections.Connector(notify=notify, ssl=context)
        proxied = address.hostname not in _THIS_MACHINE and bool(getproxies())
        async with connections.session(connector, headers=headers, trust_env=proxied) as session:
            yield session

    def decoder(self, ask: Ask) -> Decoder:
        return chat.Decoder(ask.target)

    async def send(self, client: ClientSession, ask: Ask) -> OpenResponse:
        fields = chat_request.body(ask.request, self.settings.vendor_model(ask.target.model), ask.target)
        timeout = import_module("aiohttp").ClientTimeout(total=None, sock_connect=ask.connect_timeout)
        url = _address(self.settings).rstrip("/") + "/api/chat"
        response = await client.post(url, data=encoded(fields), timeout=timeout)
        if response.status != 200:
            try:
                raise RefusedError(_reply(await response.read(), response.status, lower(response.headers)))
            finally:
                response.close()
        return opened(response, NDJSONDecoder(cap=self._cap), id_header=None)

    def transport_errors(self) -> tuple[type[BaseException], ...]:
        return (import_module("aiohttp").ClientError,)


def _address(settings: ProviderSettings) -> str:
    return settings.base_url or vendor("ollama").base_url or ""


def _reply(data: bytes, status: int, headers: dict[str, str]) -> ErrorReply:
    """The answer of a server that refuses a request."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        value = None
    return ErrorReply(error_message(value) or data[:200].decode("utf-8", "replace"), status, headers=headers)
