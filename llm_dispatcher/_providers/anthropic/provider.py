"""Anthropic, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ..._importing import importing
from ..._policy import ProviderSettings
from ..._vendors import adapters
from ..._vendors.table import vendor
from ..._wire import SSEDataDecoder
from ...exceptions import ConfigurationError, InvalidRequestError
from ...notices import Notify
from ...provider import Ask
from ...provider._decoding import Decoder, OpenResponse, lower
from ...provider._errors import ErrorReply, error_message, read_error
from ..base.encoding import bypassing
from ..base.options import headers_of, required_key
from ..base.provider import VendorProvider
from ..base.tls import trust
from ..base.transport import CONNECTIONS, opened, readable, response_to
from . import messages, messages_request

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

MAX_TOKENS: Final = 4096
"""The limit of output tokens for a request without one (option `max_tokens`): Anthropic wants a limit in each."""


BETA: Final = "anthropic-beta"
"""The header that names the beta features of a request."""


class AnthropicProvider(VendorProvider["AsyncAnthropic"]):
    """Claude models on Anthropic's own wire."""

    adapter = adapters.ANTHROPIC
    options = ("max_tokens",)

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self.max_tokens: Final = settings.options.get("max_tokens", MAX_TOKENS)
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise ConfigurationError("is an int of 1 or more", key=f"providers.{settings.name}.options.max_tokens")

    @classmethod
    async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[AsyncAnthropic, None]:
        client = await asyncio.to_thread(importing, make_client, settings, notify)
        try:
            yield client
        finally:
            await client.close()

    def decoder(self, ask: Ask) -> Decoder:
        return messages.Decoder(ask.target, self.settings.model_name, may_hand_over="fallbacks" in ask.request.extra)

    async def send(self, client: AsyncAnthropic, ask: Ask) -> OpenResponse:
        model = self.settings.vendor_model(ask.target.model)
        body = messages_request.body(ask.request, model, ask.target, self.max_tokens)
        body = bypassing(body, messages=(), max_tokens=body["max_tokens"])
        if (betas := body["extra_body"].pop("betas", None)) is not None:
            body["extra_headers"] = {BETA: self._betas(betas)}
        # Only the transport knows when a connection is being made. The loop keeps all other clocks.
        timeout = import_module("httpx2").Timeout(None, connect=ask.connect_timeout)
        response = await response_to(
            client.messages.with_streaming_response.create(**body, stream=True, timeout=timeout)
        )
        return opened(response, SSEDataDecoder(cap=self._cap), "request-id")

    def _betas(self, betas: object) -> str:
        """The value of the header for a request with `betas`, which is the name that the SDK has for it."""
        names = [betas] if isinstance(betas, str) else betas
        if not isinstance(names, Iterable):
            raise InvalidRequestError(f"extra: betas is a list of names, got {type(betas).__name__}")
        configured = next((value for name, value in self.settings.headers.items() if name.lower() == BETA), "")
        everyone = [*configured.split(","), *map(str, names)]
        return ",".join(dict.fromkeys(name.strip() for name in everyone if name.strip()))

    def error_reply(self, ask: Ask, error: BaseException) -> ErrorReply | None:
        """What an `anthropic.APIStatusError` says."""
        import anthropic

        if not isinstance(error, anthropic.APIStatusError):
            return None
        body: object = error.body
        reply = read_error(body.get("error", body) if isinstance(body, dict) else body)
        message = error_message(body) or error.message
        headers = lower(error.response.headers)
        return ErrorReply(message, error.status_code, reply.codes, headers, param=reply.param)


def make_client(settings: ProviderSettings, notify: Notify) -> AsyncAnthropic:
    """Make the SDK's client, in a thread: the first time, importing the SDK takes a second."""
    import anthropic
    import httpx2

    from ..base.connections import over_our_sessions

    client = anthropic.AsyncAnthropic(
        api_key=required_key(settings),
        base_url=settings.base_url or vendor("anthropic").base_url,  # without one, the SDK reads the environment
        default_headers=readable(headers_of(settings, adapters.ANTHROPIC, anthropic.Omit())),
        max_retries=0,
        http_client=over_our_sessions(
            anthropic.DefaultAioHttpClient(verify=trust(), limits=httpx2.Limits(max_connections=CONNECTIONS)), notify
        ),
    )
    _ = client.messages
    return client
