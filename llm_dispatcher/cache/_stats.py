"""What a cache has done so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct


class CacheStats(Struct, frozen=True):
    """`hits` by lane (`exact canonical spelling article typo`), and `shared` for who joined a stream that was under
    way; `misses` by reason; `unrecorded` by reason, for streams that were not worth keeping.
    """

    entries: int
    bytes: int
    hits: Mapping[str, int]
    shared: int
    misses: Mapping[str, int]
    recorded: int
    unrecorded: Mapping[str, int]
    evicted: int
    expired: int

    @property
    def hit_rate(self) -> float:
        """Hits and shared streams, of all requests."""
        served = sum(self.hits.values()) + self.shared
        return served / (served + sum(self.misses.values())) if served else 0.0


class Tally:
    """Counts while the cache works."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self.unrecorded: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.shared = 0
        self.recorded = 0

    def stats(self, entries: int, size: int) -> CacheStats:
        return CacheStats(
            entries=entries,
            bytes=size,
            hits=dict(self.hits),
            shared=self.shared,
            misses=dict(self.misses),
            recorded=self.recorded,
            unrecorded=dict(self.unrecorded),
            evicted=self.left["evicted"],
            expired=self.left["expired"],
        )
