"""Past the layers between an SDK's response and its socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from httpx2 import Response


def reader(response: Response) -> Callable[[], Awaitable[bytes]]:
    """Reads a response's bytes as they come, and none at the end.

    Five generators lie between the response and aiohttp's own reader, and each event that comes alone wakes them all.
    Where what is behind them can be had, it is read; where a release has moved it, or where the bytes are compressed,
    the response's own way does the same.
    """
    behind = getattr(getattr(response.stream, "_stream", None), "_aiohttp_response", None)
    if behind is not None and "content-encoding" not in response.headers:
        return all_that_came(behind.content)
    return _reading(response.aiter_bytes())


def all_that_came(content: StreamReader) -> Callable[[], Awaitable[bytes]]:
    """Reads a body's bytes as they come, and none at the end.

    aiohttp's reader raises as soon as it has heard that the connection broke, and keeps what it had received before. A
    reader who was busy elsewhere would lose it, and somebody would be asked, and paid, to say it again.
    """
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


def _reading(chunks: AsyncGenerator[bytes, None]) -> Callable[[], Awaitable[bytes]]:
    async def read() -> bytes:
        async for chunk in chunks:
            if chunk:
                return chunk
        return b""

    return read
