"""Transport: an answer is read at its connection, past the layers of the SDK that sent the request.

How it works
------------
`response_to` sends a request through an SDK and returns aiohttp's own response. `hand_out`, a middleware of our
sessions, shows the response to the task that waits in `response_to`, through the context variable `_responses`.

`reader` reads the body. Where the inside of aiohttp is as expected, it takes the received bytes from aiohttp's buffer,
because `readany` costs more than a token needs, and raises as soon as the connection has broken, before the bytes that
arrived until then are read. Otherwise it uses the public way. docs/decisions/0014 says why.

All of this belongs to the loop of the session. A cancelled read leaves no waiter behind, and the one who holds the
response closes it.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ...exceptions import ProviderProtocolError
from ...provider._decoding import LINGER, OpenResponse, Splitter, lower

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader
    from aiohttp.client_proto import ResponseHandler

AT_ONCE: Final = 64 * 1024
"""Bytes to ask a socket for. asyncio asks for 256 KiB at each read, for which many a malloc maps, faults in and unmaps
memory, once for each token (cpython#85451).
"""
UNPACKED_AT_ONCE: Final = 16 * 1024
"""Bytes to unpack before the loop gets a turn."""
CONNECTIONS: Final = 20_000
"""A stream holds its connection for as long as it lasts. With aiohttp's default of 100, streams would wait for streams.
"""

_responses: Final[ContextVar[list[ClientResponse]]] = ContextVar("responses")


async def response_to(sending: AbstractAsyncContextManager[object]) -> ClientResponse:
    """Send a request through an SDK, and return aiohttp's own response to it, unread.

    The SDK's response would wake several generators for each event, so it is dropped. The caller closes aiohttp's. The
    SDK itself reads and raises an HTTP error.
    """
    responses: list[ClientResponse] = []
    token = _responses.set(responses)
    try:
        opened = await sending.__aenter__()
        return responses.pop() if responses else _beneath(opened)
    except BaseException:
        for response in responses:
            response.close()
        raise
    finally:
        _responses.reset(token)
        responses.clear()  # a pooled connection keeps this context alive


def _beneath(opened: object) -> ClientResponse:
    """aiohttp's response inside an SDK's response, if the SDK did not use a session of `connections`."""
    stream: Any = getattr(getattr(opened, "http_response", None), "stream", None)
    stream = getattr(stream, "_stream", stream)  # httpx2 wraps the stream of its transport
    response: ClientResponse | None = getattr(stream, "_aiohttp_response", None)
    assert response is not None, "this release of the SDK does not send with aiohttp"
    return response


def hand_out(response: ClientResponse) -> None:
    """Hand a response to the task that waits for it in `response_to`."""
    if (responses := _responses.get(None)) is not None:
        responses.append(response)


def opened(
    response: ClientResponse, splitter: Splitter, id_header: str | None = "x-request-id", *, may_trail: bool = False
) -> OpenResponse:
    """What a provider's `send` returns for aiohttp's response. `id_header` holds the id of the answer."""
    headers = lower(response.headers)
    return OpenResponse(
        read=reader(response),
        splitter=splitter,
        close=response.close,
        release=partial(release, response),
        request_id=None if id_header is None else headers.get(id_header),
        headers=headers,
        may_trail=may_trail,
    )


def readable(headers: dict[str, Any]) -> dict[str, Any]:
    """These headers, and what `reader` can unpack: an SDK would ask for all that the installed packages can."""
    if any(name.lower() == "accept-encoding" for name in headers):
        return headers
    return {"accept-encoding": "gzip, deflate", **headers}


def reader(response: ClientResponse) -> Callable[[], Awaitable[bytes]]:
    """Read a body as its bytes arrive, decompressed; no bytes at its end."""
    read = all_that_came(response)
    names = (name.strip() for name in response.headers.get("content-encoding", "").lower().split(","))
    codings = [name for name in names if name in _COMPRESSIONS]
    return _unpacked(read, ", ".join(codings)) if codings else read


_COMPRESSIONS: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})
"""Other names for an encoding compress nothing. Some servers send `none`, `utf-8` or nothing at all, and plain text."""


def release(response: ClientResponse) -> None:
    """Give up a response after a complete answer, and keep its connection if possible. It does not wait.

    If the body has ended, aiohttp has already returned the connection to the pool. Otherwise the connection returns to
    the pool if the body ends within `LINGER` seconds, and is closed if it does not.
    """
    connection = response.connection
    if response.content.is_eof() or connection is None or connection.protocol is None:
        return
    closing = asyncio.get_running_loop().call_later(LINGER, response.close)
    response.content.on_eof(closing.cancel)

    def close(_: object) -> None:
        closing.cancel()
        response.close()

    _when_closed(connection.protocol, response.content, close)


def all_that_came(response: ClientResponse) -> Callable[[], Awaitable[bytes]]:
    """Read a body as its bytes arrive; no bytes at its end. What came before a connection broke is read first."""
    content = response.content
    if not _is_known(content):
        return _buffered_then_error(content)
    _ask_for_little(content._protocol.transport)
    return _from_its_buffer(content)


def _is_known(content: StreamReader) -> bool:
    from aiohttp import StreamReader
    from aiohttp.helpers import TimerNoop

    return (
        type(content) is StreamReader
        and all(hasattr(content, name) for name in _INSIDE)
        and hasattr(content._protocol, "_reading_paused")
        and type(content._timer) is TimerNoop  # aiohttp's own timeouts are not handled here
    )


_INSIDE: Final = ("_buffer", "_cursor", "_eof", "_exception", "_http_chunk_splits", "_protocol", "_size", "_waiter")


def _from_its_buffer(content: Any) -> Callable[[], Awaitable[bytes]]:
    buffer, protocol, future = content._buffer, content._protocol, asyncio.get_running_loop().create_future
    readany: Callable[[], Awaitable[bytes]] = content.readany
    fell_behind = False
    _wake_when_closed(content)

    async def read() -> bytes:
        nonlocal fell_behind
        while not buffer:
            if content._eof or content._exception is not None or protocol.transport is None:
                _check_framing(content)
                return await readany()  # it reports the end or the error
            content._waiter = waiter = future()
            try:
                await waiter
            finally:
                content._waiter = None
        came: bytes = buffer.popleft() if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        # aiohttp's own accounting: bytes unread, bytes read, and where chunks ended.
        content._size = 0
        content._cursor = content.total_bytes
        if splits := content._http_chunk_splits:
            splits.clear()
        # aiohttp resumes after each read. It must happen after every read once it has paused: its parser may hold data.
        if fell_behind or protocol._reading_paused:
            fell_behind = True
            protocol.resume_reading()
        return came

    return read


def _wake_when_closed(content: Any) -> None:
    """Wake up the task that waits for a body when its connection is closed.

    aiohttp itself tells a body's reader of a connection that broke, but not that its parser (the one in C) could not
    make sense of the framing: it closes the connection then, and the reader would wait for ever.
    """

    def wake(_: object) -> None:
        if (waiter := content._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    _when_closed(content._protocol, content, wake)


def _hear(closed: asyncio.Future[None]) -> None:
    """Retrieve the exception of a closed connection: asyncio logs one that is never retrieved."""
    if not closed.cancelled():
        closed.exception()


def _when_closed(protocol: ResponseHandler, content: StreamReader, callback: Callable[[object], None]) -> None:
    """Call `callback` if the connection is closed before the body has ended."""
    closed = protocol.closed  # belongs to the connection, which may outlive this body
    if closed is None:
        return
    closed.remove_done_callback(_hear)  # one is enough for all bodies
    closed.add_done_callback(_hear)
    closed.add_done_callback(callback)

    def forget() -> None:
        closed.remove_done_callback(callback)

    content.on_eof(forget)


def _check_framing(content: Any) -> None:
    """Raise the error of aiohttp's parser, if aiohttp has not passed it to the body."""
    error = content._protocol.exception()
    if error is not None and not content._eof and content._exception is None:
        from aiohttp import ClientPayloadError

        raise ClientPayloadError("the body's framing is malformed") from error


def _buffered_then_error(content: StreamReader) -> Callable[[], Awaitable[bytes]]:
    """Use `readany()`; if it raises, return what is still buffered first."""

    async def read() -> bytes:
        try:
            return await content.readany()
        except Exception:
            take: Callable[[int], bytes] | None = getattr(content, "_read_nowait", None)  # the public one raises too
            if take is not None and (data := take(-1)):
                return data
            raise

    return read


def _ask_for_little(transport: Any) -> None:
    """Make reads of a connection ask for `AT_ONCE` bytes, if its loop has a setting for that. uvloop needs none.

    Under TLS the protocol asks, and gets a record at a time, which is 16 KiB at most.
    """
    for asking in (transport, getattr(transport, "_ssl_protocol", None)):
        if asking is not None and getattr(asking, "max_size", 0) > AT_ONCE:
            asking.max_size = AT_ONCE


def _unpacked(read: Callable[[], Awaitable[bytes]], coding: str) -> Callable[[], Awaitable[bytes]]:
    """Decompress a body a little at a time, with a turn for the loop in between.

    A few kilobytes may unpack to gigabytes. That must hold up this stream only, and not the whole loop.
    """
    unpack, rest, more = None, b"", False

    async def read_unpacked() -> bytes:
        nonlocal unpack, rest, more
        while True:
            if more:
                await asyncio.sleep(0)
            elif not (rest := await read()):
                return b""
            if unpack is not None and unpack.eof:
                if not _begins_a_member(coding, rest):
                    more = False
                    continue  # what follows the compressed bytes is padding
                unpack = None
            if unpack is None:
                unpack = _unpacker(coding, rest)
            try:
                data: bytes = unpack.decompress(rest, UNPACKED_AT_ONCE)
            except zlib.error as error:
                raise ProviderProtocolError(f"the vendor's {coding} answer cannot be unpacked: {error}") from error
            rest = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
            more = bool(rest) or len(data) == UNPACKED_AT_ONCE
            if data:
                return data

    return read_unpacked


def _begins_a_member(coding: str, data: bytes) -> bool:
    """Whether another member of a gzip body begins here. Some servers compress each event separately (RFC 1952)."""
    return coding in ("gzip", "x-gzip") and data[:1] == b"\x1f"


def _unpacker(coding: str, beginning: bytes) -> Any:
    if coding in ("gzip", "x-gzip"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    if coding == "deflate":  # with zlib's header, or without it, as some servers send it
        return zlib.decompressobj(zlib.MAX_WBITS if beginning[0] & 0x0F == 8 else -zlib.MAX_WBITS)
    raise ProviderProtocolError(f"the vendor's answer is compressed as {coding!r}, which it was not asked for")
