"""Gemini, through the official client.

How it works
------------
The SDK addresses, signs and sends a request whose body is a placeholder. An aiohttp middleware (`_swap_body`) puts the
real body in its place just before it is sent, and hands the response out past the SDK, which would take thirty times
as long to read it. docs/decisions/0015 says why.

What the middleware needs to know of a request travels in the context variable `_outgoing`: only the task that sends it
sees the value. A pooled connection keeps the context in which it was made, so the body is dropped from the value as
soon as the request is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies

import msgspec
from msgspec import Struct

from ..._importing import importing
from ..._policy import ProviderSettings
from ..._redaction import loggable
from ..._vendors import adapters
from ..._vendors.table import vendor
from ..._wire import JSONArrayDecoder, SSEDataDecoder
from ...exceptions import InvalidRequestError
from ...notices import Notify
from ...provider import Ask
from ...provider._decoding import Decoder, OpenResponse, lower
from ...provider._errors import ErrorReply, RefusedError
from ..base.encoding import encoded
from ..base.options import required_key, vertex_of
from ..base.provider import VendorProvider
from ..base.tls import trust
from ..base.transport import opened
from . import content, content_request

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
    from google.genai import Client

    from ..base.connections import Connector


class _Outgoing(Struct):
    """What goes past the SDK: the body, which it would validate field by field, and a timeout that it cannot take."""

    body: bytes
    connect_timeout: float | None


_outgoing: Final[ContextVar[_Outgoing]] = ContextVar("outgoing")

_PLACEHOLDER: Final[Any] = {"parts": ()}
"""The contents that the SDK sends; `_swap_body` replaces them."""


class _HandedOutError(Exception):
    """Carries a response past the SDK. It never leaves this file."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response


async def _swap_body(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """An aiohttp middleware: send the real body, and hand out the response.

    An error is read here. The SDK would fail over an error whose body is not JSON, or is incomplete.
    """
    if request.body:  # a redirect may ask again without it
        await request.update_body(_outgoing.get().body)
    response = await handler(request)
    if 200 <= response.status < 300:
        raise _HandedOutError(response)
    if response.status in (307, 308) and "location" in response.headers:
        return response  # aiohttp follows it and calls this again
    raise RefusedError(_refusal(await response.read(), response))


def _refusal(body: bytes, response: ClientResponse) -> ErrorReply:
    try:
        error: object = msgspec.json.decode(body)
    except msgspec.DecodeError:
        error = {"message": body.decode("utf-8", "replace"), "status": response.reason}
    return content.error_reply(error, response.status, lower(response.headers))


class GoogleProvider(VendorProvider["Client"]):
    """Gemini models on Google's own wire."""

    adapter = adapters.GOOGLE
    options = ("vertex",)

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        vertex_of(settings)  # raises a ConfigurationError now if the option is wrong

    @classmethod
    async def open_client(cls, settings: ProviderSettings, notify: Notify) -> AsyncGenerator[Client, None]:
        await asyncio.to_thread(importing, import_module, "google.genai")  # half a second, the first time
        session = _session(notify)
        try:
            yield await asyncio.to_thread(importing, make_client, settings, session)
        finally:
            await session.close()

    def decoder(self, ask: Ask) -> Decoder:
        return content.Decoder(ask.target)

    async def send(self, client: Client, ask: Ask) -> OpenResponse:
        model = self.settings.vendor_model(ask.target.model)
        outgoing = _Outgoing(encoded(content_request.body(ask.request, ask.target, model)), ask.connect_timeout)
        response = await _response(client, model, content_request.own_tools(ask.request), outgoing)
        # Proxies that do not pass `alt=sse` on answer with an array.
        array = response.content_type == "application/json"
        splitter = JSONArrayDecoder(cap=self._cap) if array else SSEDataDecoder(cap=self._cap)
        return opened(response, splitter, may_trail=True)

    def transport_errors(self) -> tuple[type[BaseException], ...]:
        from google.auth.exceptions import TransportError

        return (*super().transport_errors(), TransportError)

    def error_reply(self, ask: Ask, error: BaseException) -> ErrorReply | None:
        """Trouble with the machine's own Google credentials. An HTTP error is a `RefusedError` already."""
        from google.auth.exceptions import GoogleAuthError, TransportError

        if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
            return ErrorReply(f"Google's credentials: {type(error).__name__}", codes=("UNAUTHENTICATED",))
        return None


async def _response(client: Client, model: str, own_tools: list[Any], outgoing: _Outgoing) -> ClientResponse:
    """Send a request and return the response, unread. Google's own tools are passed to the SDK, which checks them."""
    config: Any = {"tools": own_tools} if own_tools else None
    sending: Any = client.aio.models.generate_content_stream(model=model, contents=_PLACEHOLDER, config=config)
    token = _outgoing.set(outgoing)
    try:
        await anext(aiter(await sending), None)
    except _HandedOutError as handed_out:
        return handed_out.response
    except ValueError as error:
        if type(error) is not ValueError:
            raise  # an answer that cannot be decoded; a plain ValueError is the SDK's verdict on the request
        raise InvalidRequestError(f"google-genai does not accept this request: {loggable(str(error))}") from error
    finally:
        _outgoing.reset(token)
        outgoing.body = b""  # pooled connections keep this context alive; drop the body
    raise AssertionError("google-genai has read the stream itself: it no longer calls aiohttp's middlewares")


def make_client(settings: ProviderSettings, session: ClientSession) -> Client:
    """Make the SDK's client, in a thread."""
    from google import genai
    from google.genai import types

    client = genai.Client(
        **_access(settings),
        http_options=types.HttpOptions(
            # Without an address, the SDK would take one from the environment.
            base_url=settings.base_url or (vendor("google").base_url if vertex_of(settings) is None else None),
            headers=dict(settings.headers),
            retry_options=types.HttpRetryOptions(attempts=1),
            aiohttp_client=session,
            **_trusting(settings),
        ),
    )
    _ = client.aio.models
    return client


def _access(settings: ProviderSettings) -> dict[str, Any]:
    """The SDK's arguments for access: a key, or a project on Vertex with the machine's own Google credentials.

    With a project, the key is left out: it is one for Gemini's own interface, and Vertex would refuse it.
    """
    vertex = vertex_of(settings)
    if vertex is None or vertex.project is None:
        return {"api_key": required_key(settings), "vertexai": vertex is not None}
    return {"vertexai": True, "project": vertex.project, "location": vertex.location or "global"}


def _trusting(settings: ProviderSettings) -> dict[str, Any]:
    """The SDK's arguments for TLS. On Vertex there are none: the SDK may find a client certificate on the machine."""
    if vertex_of(settings) is not None:
        return {}
    return {"client_args": {"verify": trust()}, "async_client_args": {"ssl": trust()}}


def _session(notify: Notify) -> ClientSession:
    """A session for the SDK's client.

    With `trust_env`, aiohttp looks for a proxy and its password before each request, in a thread. Without a proxy in
    the environment this is left out, because a first chunk comes sooner than a thread does.
    """
    from ..base.connections import session

    return session(_connector(notify), _swap_body, trust_env=bool(getproxies()))


def _connector(notify: Notify) -> Connector:
    """A connector with a timeout for connecting. The SDK has no parameter for it and would wait for minutes."""
    import aiohttp

    from ..base.connections import Connector

    class PatientConnector(Connector):
        async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
            patience = aiohttp.ClientTimeout(total=timeout.total, sock_connect=_outgoing.get().connect_timeout)
            return await super().connect(req, traces, patience)

    return PatientConnector(notify=notify)
