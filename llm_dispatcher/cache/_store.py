"""Stores for recordings: the protocol `Store`, and the store in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from .. import _clock


class Entry(Struct, frozen=True, gc=False):
    """An entry of the cache without its recording.

    `key` identifies the request and `bucket` everything about it but its last words, which are `text`. `size` is in
    bytes, with the recording. `expires` is in seconds since the epoch.
    """

    key: bytes
    bucket: bytes
    text: str
    namespace: str
    size: int
    expires: float


class Snapshot(Struct, frozen=True):
    """The content of a store when it is opened: the secret of its keys, and its entries, oldest first."""

    secret: bytes
    entries: tuple[Entry, ...] = ()


class Store(Protocol):
    """Stores recordings by key.

    The cache calls `open` once, in a thread, before it calls anything else. If `open` raises a `CacheError`, the store
    was set up wrongly: the cache raises this error from each request, before anything is sent. After any other error of
    `open`, the cache stores its answers in memory.

    The cache calls all other methods from any thread. `add` and `remove` must return at once and not block; the store
    carries them out in the order in which they were called, and `read` sees their effect. A store that fails raises,
    and the cache counts a miss.
    """

    def open(self) -> Snapshot:
        """Open the store and return its contents. May block."""
        ...

    async def read(self, key: bytes) -> bytes | None:
        """The recording, or `None` if the store no longer has it."""
        ...

    def add(self, entry: Entry, recording: bytes) -> None:
        """Store a recording. One with the same key is replaced."""
        ...

    def remove(self, keys: Iterable[bytes]) -> None:
        """Delete recordings. Unknown keys change nothing."""
        ...

    def flush(self) -> None:
        """Return when every earlier `add` and `remove` is carried out. May block."""
        ...

    def close(self) -> None:
        """Flush and release all resources. May block. Closing twice is not an error."""
        ...


class MemoryStore:
    """Stores recordings in this process. They end with it."""

    def __init__(self) -> None:
        self._recordings: dict[bytes, bytes] = {}

    def open(self) -> Snapshot:
        """Return an empty snapshot."""
        return Snapshot(_clock.token_bytes(32))

    async def read(self, key: bytes) -> bytes | None:
        """The recording, or `None` if there is none."""
        return self._recordings.get(key)

    def add(self, entry: Entry, recording: bytes) -> None:
        """Keep a recording."""
        self._recordings[entry.key] = recording

    def remove(self, keys: Iterable[bytes]) -> None:
        """Forget recordings."""
        for key in keys:
            self._recordings.pop(key, None)

    def flush(self) -> None:
        """Do nothing: there is nothing to write."""

    def close(self) -> None:
        """Forget everything."""
        self._recordings.clear()
