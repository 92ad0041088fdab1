"""Past the layers between an SDK's response and its socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from httpx2 import Response

AT_ONCE: Final = 64 * 1024
"""Bytes to ask a socket for. asyncio asks for 256 KiB at each read, which is more than malloc keeps at hand: for a
token that comes alone, memory is mapped, faulted in and unmapped, at the price of all else that we do with the token.
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

    aiohttp's reader raises as soon as it has heard that the connection broke, and keeps what it had received before. A
    reader who was busy elsewhere would lose it, and somebody would be asked, and paid, to say it again.
    """
    _ask_for_little(response)
    content = response.content
    readany = content.readany

    async def read() -> bytes:
        try:
            return await readany()
        except Exception:
            kept: Callable[[int], bytes] | None = getattr(content, "_read_nowait", None)  # (the public one raises too)
            if kept is not None and (came := kept(-1)):
                return came
            raise

    return read


def _ask_for_little(response: ClientResponse) -> None:
    """From now on, reads of a connection ask for `AT_ONCE`, where its loop can be told. (uvloop need not be.)

    Under TLS it is the protocol that asks; what it is given is a record at a time, which is 16 KiB at most.
    """
    transport: Any = response.connection and response.connection.transport
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
