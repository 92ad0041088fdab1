"""The entries of a cache in memory: found by key or by a similar text, limited in number, bytes and age.

Theory of operation: an entry is on the shelf, and also in the text index if its text may be compared with others. What
leaves the shelf leaves the text index in the same step, and entries that leave because of a limit are reported to
`on_removal`. One lock guards both. Every method takes it, so threads may share an index. No method waits for anything
but the lock, and `on_removal` is called while it is held: it must return at once and not call back.
See docs/decisions/0010.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final, Literal, TypeAlias

from cachetools import TLRUCache

from ._english.index import TextIndex
from ._english.likeness import Likeness, Reading
from ._store import Entry

RemovalReason: TypeAlias = Literal["evicted", "expired"]

OVERHEAD: Final = 1500
"""About how many bytes of memory an entry takes beside its text and its recording."""


class Index:
    """Entries by key and by text. The least recently used entry leaves first when a limit is reached."""

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        clock: Callable[[], float],
        on_removal: Callable[[Entry, RemovalReason], None] = lambda entry, why: None,
    ) -> None:
        self._on_removal = on_removal
        self._max_entries = max_entries
        self._shelf = _Shelf(max_bytes, clock, self._entry_left)
        self._texts: TextIndex[Entry] = TextIndex()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._shelf)

    def __iter__(self) -> Iterator[Entry]:
        with self._lock:
            return iter([self._shelf[key] for key in list(self._shelf)])

    @property
    def size(self) -> int:
        """The bytes that all entries take, with their recordings."""
        return int(self._shelf.currsize)

    def get(self, key: bytes) -> Entry | None:
        """The entry with this key."""
        with self._lock:
            return self._shelf.get(key)

    def find(self, bucket: bytes, reading: Reading, threshold: float) -> tuple[Entry | None, Likeness]:
        """The entry in this bucket whose text is alike, and the judgement.

        Without one: `None`, and the judgement on the text that came nearest.
        """
        with self._lock:
            self._shelf.expire()
            entry, likeness = self._texts.find(bucket, reading, threshold)
            if entry is not None:
                self._shelf.get(entry.key)  # now it is the most recently used one
            return entry, likeness

    def add(self, entry: Entry, reading: Reading | None) -> bool:
        """Add an entry, and remove those that the limits no longer allow.

        Without a reading the entry is found by its key only. Returns whether it was added: an entry that is larger
        than the whole cache is not.
        """
        with self._lock:
            self._remove(entry.key)
            while self._shelf and len(self._shelf) >= self._max_entries:
                self._shelf.popitem()
            try:
                self._shelf[entry.key] = entry
            except ValueError:
                return False
            if reading is not None and entry.key in self._shelf:
                self._texts.add(entry, reading)
            return True

    def remove(self, key: bytes) -> None:
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        with self._lock:
            self._shelf.clear()
            self._texts.clear()

    def _remove(self, key: bytes) -> None:
        if self._shelf.pop(key, None) is not None:
            self._texts.remove(key)

    def _entry_left(self, entry: Entry, why: RemovalReason) -> None:
        self._texts.remove(entry.key)
        self._on_removal(entry, why)


class _Shelf(TLRUCache[bytes, Entry]):
    """Entries limited by bytes and by their own expiry. It reports every entry that leaves because of a limit."""

    def __init__(
        self, max_bytes: int, clock: Callable[[], float], on_removal: Callable[[Entry, RemovalReason], None]
    ) -> None:
        super().__init__(max_bytes, lambda key, entry, now: entry.expires, clock, lambda entry: entry.size)
        self._on_removal = on_removal

    def popitem(self) -> tuple[bytes, Entry]:
        key, entry = super().popitem()
        self._on_removal(entry, "evicted")
        return key, entry

    def expire(self, time: float | None = None) -> list[tuple[bytes, Entry]]:
        expired = list(super().expire(time))
        for _, entry in expired:
            self._on_removal(entry, "expired")
        return expired
