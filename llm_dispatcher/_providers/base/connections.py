"""aiohttp sessions for all providers: pooled connections that are safe to reuse, and answers that are bounded.

How it works
------------
Between two answers a connection lies idle in aiohttp's pool. During that time its transport speaks to an `_IdleWatch`
and not to aiohttp. The watch is also in place while the next request is sent, until the first byte of its answer: then
it hands the connection back to aiohttp and is gone. So it costs nothing per chunk, and it knows two things exactly:

- whether the server sent anything while no request was open. Such bytes answer no request, so the connection is closed
  and they are never read (aio-libs/aiohttp#13656);
- whether a request on a reused connection failed before any byte of its answer. The server had then closed the idle
  connection, and the request is sent once more, on a new connection. No attempt is counted, because nobody above
  learns of it. A *new* connection that breaks is the vendor's failure, and is reported as one.

Only the loop that owns the session touches any of this. Cancellation closes the connection in use; the watch holds no
task and no timer. See docs/decisions/0016.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.base_protocol import BaseProtocol

from ..._log import write
from ...events import Failure
from ...exceptions import ProviderProtocolError
from ...notices import Notify, RequestResent
from ...provider._errors import ErrorReply, RefusedError
from .transport import CONNECTIONS, all_that_came, hand_out, reader

LONGEST_ERROR: Final = 64 * 1024
"""Bytes to read of the body of an HTTP error, which may be endless. A proxy's page of HTML is shorter."""
ERROR_PATIENCE: Final = 2.0
"""Seconds to wait for the body of an HTTP error. After that, only the status is reported."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEPS_THE_BODY: Final = frozenset({307, 308})
"""The other redirects turn a POST into a GET without a body, which is another request."""


class _IdleWatch(asyncio.Protocol):
    """What the transport of a reused connection speaks to until the first byte of the next answer."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.is_asked = False
        """Whether a request is being sent on this connection."""
        self.has_answered = False
        """Whether any byte has come since the watch began."""

    def data_received(self, data: bytes) -> None:
        self.has_answered = True
        self._transport.set_protocol(self._protocol)
        if self.is_asked:
            self._protocol.data_received(data)
        else:
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class Connector(aiohttp.TCPConnector):
    """A pool that reuses only connections on which nothing has arrived, and resends a request if one was closed."""

    def __init__(self, *, notify: Notify = write, **options: Any) -> None:
        super().__init__(limit=CONNECTIONS, **options)
        self._notify: Final = notify
        self._reused: Final[dict[aiohttp.ClientRequest, _IdleWatch]] = {}
        """The watch over the reused connection of each request that is being sent."""
        self._wants_new: Final[set[aiohttp.ClientRequest]] = set()
        """Requests that are being sent again."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """A connection for a request. Idle connections that cannot be reused are closed."""
        while True:
            connection = await super().connect(req, traces, timeout)
            transport, protocol = connection.transport, connection.protocol
            if transport is None or protocol is None:
                return connection  # a new connection that is already broken: sending reports it
            watch = transport.get_protocol()
            if not isinstance(watch, _IdleWatch):
                break  # a new connection
            if req in self._wants_new or protocol.should_close or _can_be_read(transport):
                connection.close()
                continue
            watch.is_asked = True
            self._reused[req] = watch
            break
        connection.add_callback(partial(_watch, transport, protocol))
        return connection

    async def ask(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """An aiohttp middleware: send the request, check redirects, and bound the body of an error."""
        response = await self._send(request, handler)
        if response.status in _REDIRECTS:
            _check_redirect(request, response)
        if response.status >= 300:
            await _bound_error(response)
        hand_out(response)
        return response

    async def _send(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        except (aiohttp.ClientConnectionError, OSError) as error:
            watch = self._reused.get(request)
            if watch is None or watch.has_answered or isinstance(error, TimeoutError):
                raise
            self._notify(RequestResent(request.url.host or "", Failure.of(error)))
        finally:
            self._reused.pop(request, None)
        await request.close()  # ends what is still writing the body to the old connection
        self._wants_new.add(request)
        try:
            return await handler(request)
        finally:
            self._wants_new.discard(request)


def session(connector: Connector, *middlewares: aiohttp.ClientMiddlewareType, **options: Any) -> aiohttp.ClientSession:
    """A session over this connector. `middlewares` see its answers after it; `reader` decompresses their bodies."""
    return aiohttp.ClientSession(
        connector=connector, middlewares=(*middlewares, connector.ask), auto_decompress=False, **options
    )


def over_our_sessions(client: Any, notify: Notify = write) -> Any:
    """Make an SDK's aiohttp client for httpx2 open its connections through `Connector`, behind a proxy too."""
    # The transports of httpx2 are private; a transport that is passed to it would ignore the environment's proxies.
    # If a release has moved them, the SDK opens its own connections, and `response_to` finds its responses anyway.
    transports: list[Any] = [getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()]
    for transport in transports:
        if all(hasattr(transport, name) for name in ("client", "limits", "ssl_context")):
            transport.client = partial(_session_of, transport, notify)
    return client


def _session_of(transport: Any, notify: Notify) -> aiohttp.ClientSession:
    return session(
        Connector(notify=notify, ssl=transport.ssl_context, keepalive_timeout=transport.limits.keepalive_expiry)
    )


def _watch(transport: asyncio.Transport, protocol: Any) -> None:
    """An answer is over, or its connection is being closed."""
    if protocol.is_connected():
        transport.set_protocol(_IdleWatch(transport, protocol))


def _can_be_read(transport: asyncio.Transport) -> bool:
    """Whether an idle connection has something that the loop has not read yet: bytes, or the end of the connection."""
    plug = transport.get_extra_info("socket")
    if plug is None:
        return False
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([plug.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(plug.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _check_redirect(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> None:
    """Refuse a redirect that would take the key, the headers or the prompt to another host, or lose the prompt."""
    location = response.headers.get("location") or response.headers.get("uri")  # aiohttp follows either
    if location is None:
        return
    try:
        there = request.url.join(type(request.url)(location))
        if response.status in _KEEPS_THE_BODY and _is_same_host(request.url, there):
            return
        where = f"{there.origin()}{there.path}"
    except ValueError:
        where = repr(location[:100])
    status = response.status
    response.close()
    raise RefusedError(
        ErrorReply(
            f"{request.url.origin()} redirects to {where}, which is not followed, because the key, the headers and the"
            " prompt are for the configured host only; if the vendor has moved there, set base_url to the new address",
            status,
        )
    )


def _is_same_host(here: Any, there: Any) -> bool:
    """The same host, scheme and port; or the same host, encrypted, on the usual ports."""
    if here.host != there.host:
        return False
    if (here.scheme, here.port) == (there.scheme, there.port):
        return True
    return (here.scheme, here.port, there.scheme, there.port) == ("http", 80, "https", 443)


async def _bound_error(response: aiohttp.ClientResponse) -> None:
    """Replace the body of an error or redirect by its beginning: it may be endless, or never arrive."""
    # An SDK reads aiohttp's raw headers, and would decompress the body again. If they cannot be changed, it gets the
    # compressed bytes.
    is_known = hasattr(response, _RAW_HEADERS)
    read, body = reader(response) if is_known else all_that_came(response), bytearray()
    with suppress(TimeoutError, aiohttp.ClientError, ProviderProtocolError):
        async with asyncio.timeout(ERROR_PATIENCE):
            while len(body) < LONGEST_ERROR and (data := await read()):
                body += data
    if not response.content.is_eof():
        response.close()
    bounded = aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), LONGEST_ERROR)
    bounded.feed_data(bytes(body[:LONGEST_ERROR]))
    bounded.feed_eof()
    response.content = bounded
    if is_known:  # the public attribute is cached
        headers = tuple(each for each in getattr(response, _RAW_HEADERS) if each[0].lower() != b"content-encoding")
        setattr(response, _RAW_HEADERS, headers)


_RAW_HEADERS: Final = "_raw_headers"
