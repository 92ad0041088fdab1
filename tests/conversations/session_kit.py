"""What the tests of sessions have in common: stores that fail or wait, and short views of messages."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping

from llm_dispatcher import MemorySessions, Message

PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")
"""An image of one dot."""


def texts_of(messages: Iterable[Message]) -> list[str]:
    return [message.text for message in messages]


def roles_of(messages: Iterable[Message]) -> list[str]:
    return [message.role for message in messages]


class FailingSessions(MemorySessions):
    """A store that fails, or that stores and loses its answer, while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.loses_answers = False

    async def write(
        self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str] = (), /
    ) -> bool:
        await asyncio.sleep(0)
        if self.fails:
            raise OSError("the disk of https://me:pass-word@db is full")
        stored = await super().write(session, revision, records, removed)
        if self.loses_answers:
            raise ConnectionResetError("the connection was lost")
        return stored


class PausedSessions(MemorySessions):
    """A store whose first write waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = asyncio.Event()
        self.go_on = asyncio.Event()
        self.written = asyncio.Event()

    async def write(
        self, session: str, revision: int, records: Mapping[str, bytes], removed: Collection[str] = (), /
    ) -> bool:
        self.writing.set()
        await self.go_on.wait()
        self.written.set()
        return await super().write(session, revision, records, removed)
