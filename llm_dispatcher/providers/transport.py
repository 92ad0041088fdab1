"""Past the layers between an SDK's response and its socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader
    from httpx2 import Response

AT_ONCE: Final = 64 * 1024
"""Bytes to ask a socket for. asyncio asks for 256 KiB at each read. That is more than many a malloc keeps at hand: for
each token, memory is then mapped, faulted in and unmapped (cpython#85451).
"""


def reader(response: Response) -> Callable[[], Awaitable[bytes]]:
    """Reads a response's bytes as they come, and none at the end.

    Five generators lie between the response and aiohttp's own reader, and each event that comes alone wakes them all.
    Where what is behind them can be had, it is read; where a release has moved it, or where the bytes are compressed,
    the response's own way does the same.
    """
    behind = getattr(getattr(response.stream, "_stream", None), "_aiohttp_response", None)
    if behind is not None and "content-encoding" not in response.headers:
        return all_that_came(behind)
    return _reading(response.aiter_bytes())


def all_that_came(response: ClientResponse) -> Callable[[], Awaitable[bytes]]:
    """Reads a body's bytes as they come, and none at the end.

    aiohttp's reader does more for each read than a token needs; and it raises as soon as it has heard that the
    connection broke, before what it had received by then is read. So what it has received is taken from it, where its
    inside is as we know it. `docs/decisions/0014` says why.
    """
    content = response.content
    if not _is_known(content):
        return _what_was_kept_last(content)
    _ask_for_little(content._protocol.transport)
    return _from_its_buffer(content)


def _is_known(content: StreamReader) -> bool:
    from aiohttp import StreamReader
    from aiohttp.helpers import TimerNoop

    return (
        type(content) is StreamReader
        and all(hasattr(content, name) for name in _INSIDE)
        and hasattr(content._protocol, "_reading_paused")
        and type(content._timer) is TimerNoop  # (a clock of aiohttp's own would have to be minded)
    )


_INSIDE: Final = ("_buffer", "_cursor", "_eof", "_exception", "_http_chunk_splits", "_protocol", "_size", "_waiter")


def _from_its_buffer(content: Any) -> Callable[[], Awaitable[bytes]]:
    buffer, protocol, future = content._buffer, content._protocol, asyncio.get_running_loop().create_future
    readany: Callable[[], Awaitable[bytes]] = content.readany
    fell_behind = False

    async def read() -> bytes:
        nonlocal fell_behind
        while not buffer:
            if content._eof or content._exception is not None or protocol.transport is None:
                return await readany()  # it says how this ended
            content._waiter = waiter = future()
            try:
                await waiter
            finally:
                content._waiter = None
        came: bytes = buffer.popleft() if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        # What aiohttp keeps account by: how much is unread, how much was read, and where chunks ended, for who asks.
        content._size = 0
        content._cursor = content.total_bytes
        if splits := content._http_chunk_splits:
            splits.clear()
        # (aiohttp resumes after each read. From the first pause on that is owed: its parser may hold something back.)
        if fell_behind or protocol._reading_paused:
            fell_behind = True
            protocol.resume_reading()
        return came

    return read


def _what_was_kept_last(content: StreamReader) -> Callable[[], Awaitable[bytes]]:
    """The public way; and when it raises, what it has kept is asked for."""

    async def read() -> bytes:
        try:
            return await content.readany()
        except Exception:
            kept: Callable[[int], bytes] | None = getattr(content, "_read_nowait", None)  # (the public one raises too)
            if kept is not None and (came := kept(-1)):
                return came
            raise

    return read


def _ask_for_little(transport: Any) -> None:
    """From now on, reads of a connection ask for `AT_ONCE`, where its loop can be told. (uvloop need not be.)

    Under TLS it is the protocol that asks; what it is given is a record at a time, which is 16 KiB at most.
    """
    for asking in (transport, getattr(transport, "_ssl_protocol", None)):
        if asking is not None and getattr(asking, "max_size", 0) > AT_ONCE:
            asking.max_size = AT_ONCE


def _reading(chunks: AsyncGenerator[bytes, None]) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        async for chunk in chunks:
            if chunk:
                return chunk
        return b""

    return read
