"""A server on loopback that answers every request with one recording, in pieces as they are asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

Pieces: TypeAlias = Callable[[bytes], Sequence[bytes]]


def whole(body: bytes) -> Sequence[bytes]:
    return [body]


def in_sevens(body: bytes) -> Sequence[bytes]:
    return [body[at : at + 7] for at in range(0, len(body), 7)]


def at_fifty_places(body: bytes) -> Sequence[bytes]:
    chance = random.Random(len(body))
    places = sorted(chance.randrange(len(body) + 1) for _ in range(50))
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True) if start < end]


class Replay:
    """What it answers, and how, is set between two requests."""

    def __init__(self) -> None:
        self.case: dict[str, Any] = {}
        self.pieces: Pieces = whole
        self.base_url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        response = self.case["response"]
        body = response["body_text"].encode()
        kind = response["headers"].get("content-type", "text/event-stream")
        top = f"HTTP/1.1 {response['status']} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(top.encode())
        for piece in self.pieces(body):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # the reader's turn: it must not find two pieces in one read


@asynccontextmanager
async def replaying() -> AsyncIterator[Replay]:
    replay: Final = Replay()
    async with await asyncio.start_server(replay.serve, "127.0.0.1", 0) as server:
        replay.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield replay
