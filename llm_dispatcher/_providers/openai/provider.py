"""OpenAI and the many hosts that speak its chat wire, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Container
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..._catalog import traits
from ..._importing import importing
from ..._policy import ProviderSettings
from ..._vendors import adapters
from ..._vendors.quirks import Quirk
from ..._vendors.table import vendor
from ..._wire import SSEDataDecoder
from ...provider import Ask, Piece
from ...tasks import AudioPart, ImagePart, TaskRequest
from ..base.clients import CONNECTIONS, PerLoop
from ..base.decoding import Answering, Decoder, lower, pieces_of
from ..base.encoding import as_it_is
from ..base.error_codes import MEDIA_NOT_TAKEN, names_a_model
from ..base.errors import Answer, answer_in, said, translated
from ..base.options import check_options, headers_of, max_event_bytes, quirks_of, required_key
from ..base.tls import trust
from ..base.transport import readable, reader, response_to
from . import chat as openai_chat
from . import chat_request as openai_chat_request
from . import responses as openai_responses
from . import responses_request as openai_responses_request

if TYPE_CHECKING:
    from httpx2 import URL
    from openai import AsyncOpenAI


class OpenAIProvider:
    """`api: responses` is the default on the official host, `chat` on others and for models that take audio, which
    only that interface does.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        check_options(settings, "quirks", *(("api_version",) if settings.kind == "azure" else ()))
        self.settings: Final = settings
        self._quirks: Final = quirks_of(settings)
        self._cap: Final = max_event_bytes(settings)
        self._default_api: Final = settings.api or vendor(settings.kind).interface_at(settings.base_url)
        self._clients: Final = PerLoop(partial(_client, settings))

    def _chats(self, model: str) -> bool:
        """Whether a model is asked over the interface `chat`."""
        return self._default_api == "chat" or (self.settings.api is None and traits("openai", model).audio)

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        if self._chats(self.settings.vendor_model(ask.target.model)):
            decoder: Decoder = openai_chat.Decoder(ask.target, self._quirks)
        else:
            limit = ask.request.max_tokens if "partial_responses" in self._quirks else None
            decoder = openai_responses.Decoder(ask.target, limit)
        translating = translated(ask, partial(_answer_of, ask.request, self._quirks), _transport_errors)
        return pieces_of(partial(self._send, ask), decoder, translating, raw=ask.raw)

    async def _send(self, ask: Ask) -> Answering:
        model = self.settings.vendor_model(ask.target.model)
        chats = self._chats(model)
        if chats:
            body = as_it_is(openai_chat_request.body(ask.request, model, ask.target, self._quirks), messages=())
        else:
            body = as_it_is(openai_responses_request.body(ask.request, model, ask.target, self._quirks))
        client = await self._clients.get()
        resource = client.chat.completions if chats else client.responses
        # Only the transport can tell that a connection is being made; all other clocks are the loop's.
        timeout = import_module("httpx2").Timeout(None, connect=ask.connect_timeout)
        response = await response_to(
            resource.with_streaming_response.create(
                **body, stream=True, timeout=timeout, extra_headers=_unauthorized(self.settings)
            )
        )
        headers = lower(response.headers)
        splitter = SSEDataDecoder(cap=self._cap)
        return Answering(headers.get("x-request-id"), headers, splitter, response, reader(response))

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _client(settings: ProviderSettings) -> AsyncGenerator[AsyncOpenAI, None]:
    client = await asyncio.to_thread(importing, _made, settings)
    try:
        yield client
    finally:
        await client.close()


def _made(settings: ProviderSettings) -> AsyncOpenAI:
    """In a thread: the first time, the SDK and its resources take most of a second to load."""
    import httpx2
    import openai

    from ..base.connections import over_our_sessions

    key = "none" if _wants_no_key(settings) else required_key(settings)
    rest: Any = {
        "default_headers": readable(headers_of(settings, adapters.OPENAI, openai.Omit())),
        "max_retries": 0,
        "http_client": over_our_sessions(
            openai.DefaultAioHttpClient(verify=trust(), limits=httpx2.Limits(max_connections=CONNECTIONS))
        ),
    }
    if settings.kind == "azure":
        client = _azure(settings, key, rest)
    else:
        client = openai.AsyncOpenAI(api_key=key, base_url=settings.base_url or vendor(settings.kind).base_url, **rest)
    _ = client.chat.completions, client.responses
    return client


def _azure(settings: ProviderSettings, key: str, rest: Any) -> AsyncOpenAI:
    """Azure's newer address serves every deployment; with an `api_version`, each deployment has its own."""
    import openai

    resource = (settings.base_url or "").removesuffix("/openai/v1")
    if (version := settings.options.get("api_version")) is not None:
        return openai.AsyncAzureOpenAI(api_key=key, api_version=str(version), azure_endpoint=resource, **rest)
    return openai.AsyncOpenAI(api_key=key, base_url=f"{resource}/openai/v1", **rest)


def _wants_no_key(settings: ProviderSettings) -> bool:
    return settings.api_key is None and not vendor(settings.kind).key_variables


def _unauthorized(settings: ProviderSettings) -> dict[str, Any] | None:
    """The SDK insists on a key; a host that wants none is not sent one, and a header of the user's own stays."""
    if not _wants_no_key(settings) or "authorization" in {name.lower() for name in settings.headers}:
        return None
    return {"Authorization": import_module("openai").Omit()}


def _transport_errors() -> tuple[type[BaseException], ...]:
    import aiohttp
    import httpx2

    return (aiohttp.ClientError, httpx2.RequestError)


def _answer_of(request: TaskRequest, quirks: Container[Quirk], error: BaseException) -> Answer | None:
    """What an `openai.APIStatusError` says."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return None
    answer = answer_in(error.body)
    codes, message = answer.codes, said(error.body) or error.message
    if error.status_code == 500 and "media_by_500" in quirks and _holds_media(request):
        codes = (MEDIA_NOT_TAKEN, *codes)
    if error.status_code == 404 and not names_a_model(codes, answer.param):
        message = f"{message}: {_no_such_path(error.response.request.url)}"
    return Answer(message, error.status_code, codes, lower(error.response.headers), param=answer.param)


def _holds_media(request: TaskRequest) -> bool:
    return any(isinstance(part, (ImagePart, AudioPart)) for turn in request.conversation for part in turn.parts)


def _no_such_path(url: URL) -> str:
    """What a 404 means that does not speak of a model: most often, an interface that the host does not have."""
    other = "responses" if url.path.endswith("/chat/completions") else "chat"
    return (
        f"either POST {url.scheme}://{url.netloc.decode()}{url.path} does not exist at this address, or the model does "
        f"not; check base_url (most hosts want /v1 at its end) and the provider's api, which may have to be {other!r}"
    )
