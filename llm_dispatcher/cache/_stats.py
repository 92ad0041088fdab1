"""Counters of a cache: hits, misses, recordings and removals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct


class CacheStats(Struct, frozen=True):
    """Counts of a cache in this process so far.

    `hits` are counted by lane: `exact`, `canonical`, `spelling`, `article`, `typo`. `shared` counts calls that joined a
    stream that another call had opened. `misses` and `unrecorded` are counted by reason; `unrecorded` are streams that
    were answered but not recorded. `evicted` and `expired` count entries that left because of a limit or their age.
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
        """The share of requests that were served from the cache or shared a stream."""
        served = sum(self.hits.values()) + self.shared
        return served / (served + sum(self.misses.values())) if served else 0.0


class Tally:
    """The counters while they change. Every thread that uses the cache counts here; a lost count is accepted."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self.unrecorded: Counter[str] = Counter()
        self.removals: Counter[str] = Counter()
        self.shared = 0
        self.recorded = 0

    def stats(self, entries: int, size: int) -> CacheStats:
        """The counters as a value, with the number of entries and their size in bytes."""
        return CacheStats(
            entries=entries,
            bytes=size,
            hits=dict(self.hits),
            shared=self.shared,
            misses=dict(self.misses),
            recorded=self.recorded,
            unrecorded=dict(self.unrecorded),
            evicted=self.removals["evicted"],
            expired=self.removals["expired"],
        )
