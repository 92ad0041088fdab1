"""A cache of streamed answers. It serves an answer only if it can prove that the question is the same."""

from ._english.likeness import Likeness, alike
from ._sqlite import SQLiteStore
from ._stats import CacheStats
from ._store import Entry, MemoryStore, Snapshot, Store
from ._streaming_cache import StreamingCache

__all__ = [
    "CacheStats",
    "Entry",
    "Likeness",
    "MemoryStore",
    "SQLiteStore",
    "Snapshot",
    "Store",
    "StreamingCache",
    "alike",
]
