"""Gemini, through the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies

import msgspec
from msgspec import Struct

from ..._importing import importing
from ..._policy import ProviderSettings
from ..._redaction import loggable
from ..._vendors.table import vendor
from ..._wire import JSONArrayDecoder, SSEDataDecoder
from ...exceptions import InvalidRequestError
from ...provider import Ask, Piece
from ..base.clients import PerLoop
from ..base.decoding import Answering, lower, pieces_of
from ..base.encoding import encoded
from ..base.errors import Answer, RefusedError, translated
from ..base.options import check_options, max_event_bytes, required_key, vertex_of
from ..base.tls import trust
from ..base.transport import reader
from . import content as google_content
from . import content_request as google_request

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
    from google.genai import Client

    from ..base.connections import Connector


class _Sent(Struct):
    """What goes past the SDK: it has no parameter for the one, and would take the other apart, field by field."""

    body: bytes
    connect_timeout: float | None


_sent: Final[ContextVar[_Sent]] = ContextVar("sent")

_NOTHING: Final[Any] = {"parts": ()}
"""What the SDK is asked to send; `_door` puts the body in its place."""


class _HandedOutError(Exception):
    """Carries a response past the SDK, which would take thirty times as long to read it. Never leaves this file."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response


async def _door(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """The SDK addresses, signs and sends what is ours. What comes back is read here: the SDK would fail over the body
    of an error that is no JSON, or not all of it.
    """
    if request.body:  # (a redirect may ask anew without it)
        await request.update_body(_sent.get().body)
    response = await handler(request)
    if 200 <= response.status < 300:
        raise _HandedOutError(response)
    if response.status in (307, 308) and "location" in response.headers:
        return response  # aiohttp follows it, and asks here again
    raise RefusedError(_refusal(await response.read(), response))


def _refusal(body: bytes, response: ClientResponse) -> Answer:
    try:
        said: object = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = {"message": body.decode("utf-8", "replace"), "status": response.reason}
    return google_content.answer(said, response.status, lower(response.headers))


class GoogleProvider:
    """Gemini models on Google's own wire."""

    def __init__(self, settings: ProviderSettings) -> None:
        check_options(settings, "vertex")
        self.settings: Final = settings
        vertex_of(settings)  # refused now, if it makes no sense
        self._cap: Final = max_event_bytes(settings)
        self._clients: Final = PerLoop(partial(_client, settings))

    def stream(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        translating = translated(ask, _answer_of, _transport_errors)
        return pieces_of(partial(self._send, ask), google_content.Decoder(ask.target), translating, raw=ask.raw)

    async def _send(self, ask: Ask) -> Answering:
        model = self.settings.vendor_model(ask.target.model)
        client = await self._clients.get()
        sent = _Sent(encoded(google_request.body(ask.request, ask.target)), ask.connect_timeout)
        response = await _response(client, model, google_request.own_tools(ask.request), sent)
        headers = lower(response.headers)
        # Proxies that do not pass `alt=sse` on answer with an array.
        array = response.content_type == "application/json"
        splitter = JSONArrayDecoder(cap=self._cap) if array else SSEDataDecoder(cap=self._cap)
        return Answering(headers.get("x-request-id"), headers, splitter, response, reader(response), may_trail=True)

    async def prepare(self) -> None:
        await self._clients.get()

    async def aclose(self) -> None:
        await self._clients.aclose()


async def _response(client: Client, model: str, own_tools: list[Any], sent: _Sent) -> ClientResponse:
    """The answer to a request, unread. Google's own tools are shown to the SDK, which knows who takes which."""
    config: Any = {"tools": own_tools} if own_tools else None
    asked: Any = client.aio.models.generate_content_stream(model=model, contents=_NOTHING, config=config)
    token = _sent.set(sent)
    try:
        await anext(aiter(await asked), None)
    except _HandedOutError as handed_out:
        return handed_out.response
    except ValueError as error:
        if type(error) is not ValueError:
            raise  # an answer that could not be read; this one is the SDK's word on what it was asked
        raise InvalidRequestError(f"google-genai does not accept this request: {loggable(str(error))}") from error
    finally:
        _sent.reset(token)
        sent.body = b""  # what was begun meanwhile keeps its context: a connection, for as long as it is in use
    raise AssertionError("google-genai read the stream itself: its door for aiohttp middlewares is closed")


async def _client(settings: ProviderSettings) -> AsyncGenerator[Client, None]:
    await asyncio.to_thread(importing, import_module, "google.genai")  # half a second, the first time
    session = _session()
    try:
        yield await asyncio.to_thread(importing, _made, settings, session)
    finally:
        await session.close()


def _made(settings: ProviderSettings, session: ClientSession) -> Client:
    from google import genai
    from google.genai import types

    client = genai.Client(
        **_access(settings),
        http_options=types.HttpOptions(
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
    """A key, for Gemini's own interface or for Vertex; or a project on Vertex, entered with the machine's own Google
    credentials: a key in the environment is Gemini's, and would be refused there.
    """
    vertex = vertex_of(settings)
    if vertex is None or vertex.project is None:
        return {"api_key": required_key(settings), "vertexai": vertex is not None}
    return {"vertexai": True, "project": vertex.project, "location": vertex.location or "global"}


def _trusting(settings: ProviderSettings) -> dict[str, Any]:
    """Vertex is left to the SDK, which may find a certificate of the client's own on the machine."""
    if vertex_of(settings) is not None:
        return {}
    return {"client_args": {"verify": trust()}, "async_client_args": {"ssl": trust()}}


def _session() -> ClientSession:
    """Where the environment names a proxy, it is asked before each request: in a thread, for a file of passwords too.
    Where it names none, there is nothing to ask, and a first chunk comes sooner than a thread.
    """
    from ..base.connections import session

    return session(_connector(), _door, trust_env=bool(getproxies()))


def _connector() -> Connector:
    """A connector with a clock of its own for connecting: the SDK passes none on, and would wait for minutes."""
    import aiohttp

    from ..base.connections import Connector

    class PatientConnector(Connector):
        async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
            patience = aiohttp.ClientTimeout(total=timeout.total, sock_connect=_sent.get().connect_timeout)
            return await super().connect(req, traces, patience)

    return PatientConnector()


def _transport_errors() -> tuple[type[BaseException], ...]:
    import aiohttp
    from google.auth.exceptions import TransportError

    return (aiohttp.ClientError, TransportError)


def _answer_of(error: BaseException) -> Answer | None:
    """The trouble with credentials that come of the machine; an HTTP error is a `RefusedError` already."""
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return Answer(f"Google's credentials: {type(error).__name__}", codes=("UNAUTHENTICATED",))
    return None
