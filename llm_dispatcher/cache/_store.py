"""Where recordings are kept: one small protocol, and the memory that keeps it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct


class Row(Struct, frozen=True):
    """An entry without its recording: what an index is made of. `expires` is in seconds since the epoch."""

    key: bytes
    bucket: bytes
    text: str
    namespace: str
    size: int
    expires: float


class Kept(Struct, frozen=True):
    """What a store kept from earlier: the secret that its keys were made with, and its entries, oldest first."""

    secret: bytes
    rows: tuple[Row, ...] = ()


class Store(Protocol):
    """Keeps recordings by key. The cache calls `open` once, in a thread, before all else.

    A `CacheError` of `open` says that the store was set up wrongly: it is raised to whoever makes a request, before
    anything is sent. After any other error of `open`, the cache keeps its answers in memory.

    `add` and `remove` return at once and must not block; what they were told is kept in order, and `read` sees it. A
    store that fails raises: the cache takes it for a miss.
    """

    def open(self) -> Kept: ...

    async def read(self, key: bytes) -> bytes | None:
        """The recording, or `None` where it is gone."""
        ...

    def add(self, row: Row, recording: bytes) -> None: ...

    def remove(self, keys: Iterable[bytes]) -> None: ...

    def flush(self) -> None:
        """Return when all that was told is kept. May block."""
        ...

    def close(self) -> None:
        """Keep what is still to be kept, and let go of everything. Closing twice is no error."""
        ...


class MemoryStore:
    """Recordings in this process: gone with it."""

    def __init__(self) -> None:
        self._recordings: dict[bytes, bytes] = {}

    def open(self) -> Kept:
        return Kept(secrets.token_bytes(32))

    async def read(self, key: bytes) -> bytes | None:
        return self._recordings.get(key)

    def add(self, row: Row, recording: bytes) -> None:
        self._recordings[row.key] = recording

    def remove(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self._recordings.pop(key, None)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._recordings.clear()
