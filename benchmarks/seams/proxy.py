"""A TCP proxy before a model server. It resets one connection at a byte of the answer, and keeps the whole answer.

The next exchange after `arm` is the one that is cut. The proxy first reads the server's whole answer, passes on as much
of it as the cut leaves, and resets the connection. So what the same server would have said to the same request, in
the same state, is known for each cut. All later connections are passed on whole, or refused if the server
is to be dead after the cut.

Where the cut server is not asked again, its state has no part in what follows. So there its answer to a prompt is
recorded once, and the same bytes are cut for every reader.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

END_OF_HEAD: Final = b"\r\n\r\n"
PAUSE: Final = 0.05
"""Seconds between the last byte and the reset, so that a busy client has read the bytes."""


class Cut(msgspec.Struct):
    """A cut: `place` is the share of the body that is passed on; the rest is what happened."""

    place: float
    dead_after: bool = False
    request: bytes = b""
    body: bytes = b""
    passed_on: int = -1

    @property
    def has_happened(self) -> bool:
        return self.passed_on >= 0

    @property
    def whole(self) -> str:
        """The text of the whole answer."""
        return chat_text(unchunked(self.body))

    @property
    def delivered(self) -> str:
        """The text in the bytes that were passed on."""
        return chat_text(unchunked(self.body[: self.passed_on]))


def unchunked(body: bytes) -> bytes:
    """A body without the framing of `Transfer-Encoding: chunked`, as far as it goes."""
    out = bytearray()
    while True:
        head, found, rest = body.partition(b"\r\n")
        try:
            size = int(head.split(b";")[0], 16)
        except ValueError:
            return bytes(out)
        if not found or not size:
            return bytes(out)
        out += rest[:size]
        body = rest[size + 2 :]


def chat_text(events: bytes) -> str:
    """The text of a streamed chat answer."""
    pieces: list[str] = []
    for line in events.split(b"\n"):
        data = line.strip().removeprefix(b"data: ")
        if data == line.strip() or data == b"[DONE]":
            continue
        try:
            event: Any = msgspec.json.decode(data)
        except msgspec.DecodeError:
            continue
        for choice in event.get("choices") or ():
            pieces.append((choice.get("delta") or {}).get("content") or "")
    return "".join(pieces)


class Proxy:
    """The proxy. `requests` are the bodies of all requests that came, in order."""

    def __init__(self, upstream: int, recorded: dict[str, bytes]) -> None:
        self.upstream = upstream
        self.recorded = recorded
        self.port = 0
        self.requests: list[bytes] = []
        self.cut: Cut | None = None
        self._is_dead = False

    def arm(self, place: float, *, dead_after: bool) -> Cut:
        """Cut the next exchange. The server is there again until then."""
        self._is_dead = False
        self.cut = Cut(place, dead_after)
        return self.cut

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one exchange."""
        try:
            if self._is_dead:
                _reset(writer)
                return
            request = await _message(reader)
            if not request:
                return
            self.requests.append(request.partition(END_OF_HEAD)[2])
            cut = self.cut if self.cut is not None and not self.cut.has_happened else None
            answer = await (self._answer_once if cut is not None and cut.dead_after else self._ask)(request)
            head, _, body = answer.partition(END_OF_HEAD)
            head += b"\r\nConnection: close" + END_OF_HEAD
            if cut is None:
                writer.write(head + body)
                await writer.drain()
                return
            cut.request, cut.body = self.requests[-1], body
            cut.passed_on = min(1 + int(cut.place * len(body)), len(body) - 1)
            self._is_dead = cut.dead_after
            writer.write(head + body[: cut.passed_on])
            await writer.drain()
            await asyncio.sleep(PAUSE)
            _reset(writer)
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)
        finally:
            writer.close()

    async def _answer_once(self, request: bytes) -> bytes:
        key = prompt_of(request.partition(END_OF_HEAD)[2])
        if key not in self.recorded:
            self.recorded[key] = await self._ask(request)
        return self.recorded[key]

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            writer.write(request)
            await writer.drain()
            return await _message(reader)
        finally:
            writer.close()


def prompt_of(body: bytes) -> str:
    """The last user turn of a chat request, as text or in parts."""
    content: Any = msgspec.json.decode(body)["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _reset(writer: asyncio.StreamWriter) -> None:
    opened: socket.socket | None = writer.get_extra_info("socket")
    if opened is not None and not writer.transport.is_closing():
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP message, whole; nothing if the connection ended before it."""
    try:
        head = await reader.readuntil(END_OF_HEAD)
    except asyncio.IncompleteReadError:
        return b""
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return head + await _chunks(reader)
    return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, with its framing."""
    out = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        out += line + await reader.readexactly(size + 2)
        if not size:
            return bytes(out)


@asynccontextmanager
async def proxy_before(upstream: int, recorded: dict[str, bytes]) -> AsyncIterator[Proxy]:
    """A proxy that listens while the block runs. `recorded` holds the server's answers by prompt."""
    proxy = Proxy(upstream, recorded)
    serve: Callable[..., Any] = proxy.serve
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 24)
    proxy.port = int(server.sockets[0].getsockname()[1])
    async with server:
        yield proxy
