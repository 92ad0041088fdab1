"""OpenAI and the hosts that speak its wires, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from ..._catalog import traits
from ..._importing import importing
from ..._policy import Api, ProviderSettings
from ..._vendors import adapters
from ..._vendors.entries import quirks_of
from ..._vendors.quirks import Quirk
from ..._vendors.table import vendor
from ..._wire import SSEDataDecoder
from ...notices import Notify
from ...provider import Ask, Piece, Rung, TokenTrail
from ...provider._decoding import Decoder, OpenResponse, lower
from ...provider._error_codes import MEDIA_NOT_TAKEN, names_a_model
from ...provider._errors import ErrorReply, error_message, read_error, translated
from ...tasks import Target, TaskRequest
from ..base.encoding import bypassing, has_media
from ..base.options import TOKEN_IDS, headers_of, required_key, uses_token_ids
from ..base.provider import VendorProvider
from ..base.tls import trust
from ..base.transport import CONNECTIONS, opened, readable, response_to
from . import chat, chat_request, chat_tokens, completions, responses, responses_request
from .background import BACKGROUND, STORED, BackgroundRun, Calls, background_option, check_storable, is_kept
from .chat_request import CONTINUE
from .token_prompt import TokenService
from .token_trail import Trail, may_have_trail

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from httpx2 import URL
    from openai import AsyncOpenAI


class Endpoint(Struct, frozen=True, kw_only=True):
    """One of the SDK's resources. `required` are the arguments without which the SDK sends nothing."""

    resource: Callable[[AsyncOpenAI], Any]
    required: Mapping[str, object] = {}


class Interface(Endpoint, frozen=True, kw_only=True):
    """One of OpenAI's interfaces: its resource, how a request is written, and how its answer is decoded."""

    body: Callable[[TaskRequest, str, Target, frozenset[Quirk]], dict[str, Any]]
    decoder: Callable[[Ask, frozenset[Quirk]], Decoder]


def _responses_decoder(ask: Ask, quirks: frozenset[Quirk]) -> Decoder:
    return responses.Decoder(ask.target, ask.request.max_tokens if "partial_responses" in quirks else None)


INTERFACES: Final[Mapping[Api, Interface]] = {
    "chat": Interface(
        body=chat_request.body,
        decoder=lambda ask, quirks: chat.Decoder(ask.target, quirks),
        resource=lambda client: client.chat.completions,
        required={"messages": ()},
    ),
    "responses": Interface(
        body=responses_request.body, decoder=_responses_decoder, resource=lambda client: client.responses
    ),
}

COMPLETIONS: Final = Endpoint(resource=lambda client: client.completions, required={"prompt": ""})
"""By which an answer goes on from token ids."""

MOST_REMEMBERED: Final = 1_024
"""A request may name any model, so past this number the memory is cleared."""


class OpenAIProvider(VendorProvider["AsyncOpenAI"]):
    """OpenAI, and the hosts that speak its wires.

    An entry's `api` chooses the interface. Without it, OpenAI's own address is asked over `responses` (over `chat` for
    models that take audio, which only that interface accepts), and any other address over `chat`.
    """

    adapter = adapters.OPENAI
    options = ("quirks", BACKGROUND)

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self._quirks: Final = quirks_of(settings)
        self._api: Final = settings.api or vendor(settings.kind).interface_at(settings.base_url)
        self._background: Final = background_option(settings, self._api)
        self._without_fields: Final[set[str]] = set()  # models that continue an open turn without the fields for it
        self._ids: Final = vendor(settings.kind).id_source if uses_token_ids(settings) else None

    @classmethod
    def option_names(cls, settings: ProviderSettings) -> Sequence[str]:
        names = [*super().option_names(settings)]
        if settings.kind == "azure":
            names.append("api_version")
        if vendor(settings.kind).id_source is not None:
            names.append(TOKEN_IDS)
        return names

    @classmethod
    async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[AsyncOpenAI, None]:
        client = await asyncio.to_thread(importing, make_client, settings, notify)
        try:
            yield client
        finally:
            await client.close()

    def interface(self, model: str) -> Interface:
        """The interface over which a model is asked; `model` is the vendor's own name."""
        needs_chat = self.settings.api is None and traits("openai", model).audio
        return INTERFACES["chat" if needs_chat else self._api]

    def takes_tokens(self, model: str, trail: TokenTrail) -> bool:
        """Whether this model can go on from these tokens."""
        return isinstance(trail, Trail) and bool(trail.text) and trail.family == self._family(model)

    def _family(self, model: str) -> str | None:
        """The vocabulary of a model's ids; `None` without token ids. Servers name a model alike if it is the same."""
        name = self.settings.vendor_model(model)
        goes_on = self._ids is not None and self.interface(name) is INTERFACES["chat"]
        return f"{self.settings.kind}/{name}" if goes_on else None

    def _trail_family(self, ask: Ask) -> str | None:
        """The vocabulary of the ids of an answer; `None` if it cannot go on from them."""
        family = self._family(ask.target.model)
        return family if family is not None and may_have_trail(ask.request) else None

    def decoder(self, ask: Ask) -> Decoder:
        if isinstance(ask.tokens, Trail):
            return completions.Decoder(ask.target, self._quirks, ask.tokens)
        if (family := self._trail_family(ask)) is not None:
            decoder = chat_tokens.Decoder if self._ids == "answer" else chat_tokens.TextDecoder
            return decoder(ask.target, self._quirks, family)
        return self.interface(self.settings.vendor_model(ask.target.model)).decoder(ask, self._quirks)

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """The pieces of the answer to a request. If it runs in the background, one of them is a `KeptRun`."""
        if not self._is_kept(ask.request, ask.target.model):
            return super().stream(ask)
        calls = Calls(
            client=self.client,
            create=partial(self._create_kept, ask),
            opened=self._opened,
            translating=lambda: translated(ask, partial(self.error_reply, ask), self.transport_errors),
            options=self._options(ask.connect_timeout),
            notify=self.notify,
        )
        return BackgroundRun(ask, self.decoder(ask), calls).begin()

    def rung(self, model: str, request: TaskRequest) -> Rung | None:
        """`reattached` if a request runs in the background, so that a broken stream can be read on; `exact` if a broken
        answer can go on from its token ids.
        """
        if self._is_kept(request, model):
            return "reattached"
        return "exact" if self._family(model) is not None and may_have_trail(request) else None

    def _is_kept(self, request: TaskRequest, model: str) -> bool:
        """Whether a request runs in the background."""
        if self._api != "responses" or not is_kept(request, self._background, self.settings, model):
            return False
        return self.interface(self.settings.vendor_model(model)) is INTERFACES["responses"]

    async def send(self, client: AsyncOpenAI, ask: Ask) -> OpenResponse:
        return await self._create(client, ask)

    async def _create_kept(self, ask: Ask) -> OpenResponse:
        check_storable(ask.request, self.settings)
        client = await self.client()
        return await self.send_with_or_without_thoughts(ask, lambda ask: self._create(client, ask, STORED))

    async def _create(self, client: AsyncOpenAI, ask: Ask, more: Mapping[str, Any] = {}) -> OpenResponse:
        """Send a request, with `more` fields in its body."""
        model = self.settings.vendor_model(ask.target.model)
        interface = self.interface(model)
        endpoint: Endpoint = interface
        body = interface.body(ask.request, model, ask.target, self._quirks)
        options = self._options(ask.connect_timeout)
        if isinstance(ask.tokens, Trail):
            body = await self._continuation(TokenService(client, **options), ask, ask.tokens, body)
            endpoint = COMPLETIONS
        elif self._ids == "answer" and self._trail_family(ask) is not None:
            body["return_token_ids"] = True
        elif self._counts_usage(ask, interface):
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        arguments = bypassing(body, **endpoint.required)
        arguments["extra_body"] |= more
        create = partial(endpoint.resource(client).with_streaming_response.create, stream=True, **options)
        if "may_prefill" in self._quirks and CONTINUE.items() <= arguments["extra_body"].items():
            return self._opened(await self._with_or_without_fields(create, arguments))
        return self._opened(await response_to(create(**arguments)))

    def _counts_usage(self, ask: Ask, interface: Interface) -> bool:
        """Whether the host is asked for its usage in each chunk, so that the rest of a limit is known after a break."""
        may_count = interface is INTERFACES["chat"] and ask.request.max_tokens is not None
        return may_count and "usage_in_each_chunk" in self._quirks

    async def _with_or_without_fields(self, create: Callable[..., Any], arguments: dict[str, Any]) -> ClientResponse:
        """The answer of a host that is not known, to a request with an open turn. It may refuse the fields for that."""
        import openai

        model = arguments["model"]
        if model not in self._without_fields:
            try:
                return await response_to(create(**arguments))
            except openai.APIStatusError as error:
                if error.status_code not in (400, 422):
                    raise
        rest = {name: value for name, value in arguments["extra_body"].items() if name not in CONTINUE}
        response = await response_to(create(**{**arguments, "extra_body": rest}))
        if len(self._without_fields) >= MOST_REMEMBERED:
            self._without_fields.clear()
        self._without_fields.add(model)
        return response

    def _opened(self, response: ClientResponse) -> OpenResponse:
        return opened(response, SSEDataDecoder(cap=self._cap))

    def _options(self, connect_timeout: float | None) -> dict[str, Any]:
        """The options of every call. Only the transport knows when a connection is being made; the loop keeps all other
        clocks.
        """
        timeout = import_module("httpx2").Timeout(None, connect=connect_timeout)
        return {"timeout": timeout, "extra_headers": _unauthorized(self.settings)}

    async def _continuation(
        self, service: TokenService, ask: Ask, trail: Trail, chat_body: dict[str, Any]
    ) -> dict[str, Any]:
        """The body of a request that goes on from a trail. `chat_body` is that of the request that began the answer."""
        if self._ids == "answer":
            prompt = await service.prompt_of_ids(chat_body["model"], trail, ask.request.max_tokens)
        else:
            rendered = {name: chat_body[name] for name in ("model", "messages")} | chat_body.get("extra_body", {})
            prompt = await service.prompt_of_text(rendered, trail, ask.request.max_tokens)
        body = completions.body(ask.request, chat_body["model"], prompt, quirks=self._quirks)
        if self._ids == "answer":
            body["return_token_ids"] = True
        return body

    def error_reply(self, ask: Ask, error: BaseException) -> ErrorReply | None:
        """What an `openai.APIStatusError` says."""
        import openai

        if not isinstance(error, openai.APIStatusError):
            return None
        reply = read_error(error.body)
        codes, message = reply.codes, error_message(error.body) or error.message
        if error.status_code == 500 and "media_by_500" in self._quirks and has_media(ask.request):
            codes = (MEDIA_NOT_TAKEN, *codes)
        if error.status_code == 404 and not names_a_model(codes, reply.param):
            message = f"{message}: {_no_such_path(error.response.request.url)}"
        return ErrorReply(message, error.status_code, codes, lower(error.response.headers), param=reply.param)


def make_client(settings: ProviderSettings, notify: Notify) -> AsyncOpenAI:
    """Make the SDK's client, in a thread: the first time, importing the SDK takes most of a second."""
    import httpx2
    import openai

    with suppress(ImportError):  # the SDK takes it from sys.modules, and fails while another thread imports it
        import_module("httpx")

    from ..base.connections import over_our_sessions

    key = "none" if _wants_no_key(settings) else required_key(settings)
    rest: Any = {
        "default_headers": readable(headers_of(settings, adapters.OPENAI, openai.Omit())),
        "max_retries": 0,
        "http_client": over_our_sessions(
            openai.DefaultAioHttpClient(verify=trust(), limits=httpx2.Limits(max_connections=CONNECTIONS)), notify
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
    """Remove the placeholder key that the SDK insists on, for a host that wants none. A configured header stays."""
    if not _wants_no_key(settings) or "authorization" in {name.lower() for name in settings.headers}:
        return None
    return {"Authorization": import_module("openai").Omit()}


def _no_such_path(url: URL) -> str:
    """What a 404 that names no model probably means: the host does not have the interface."""
    other = "responses" if url.path.endswith("/chat/completions") else "chat"
    return (
        f"either POST {url.scheme}://{url.netloc.decode()}{url.path} does not exist at this address, or the model does "
        f"not; check base_url (most hosts want /v1 at its end) and the provider's api, which may have to be {other!r}"
    )
