"""A cache that would rather pay than serve the answer to another question."""

from ._english.likeness import Likeness, alike
from ._sqlite import SQLiteStore
from ._stats import CacheStats
from ._store import Kept, MemoryStore, Row, Store
from ._streaming_cache import StreamingCache

__all__ = ["CacheStats", "Kept", "Likeness", "MemoryStore", "Row", "SQLiteStore", "Store", "StreamingCache", "alike"]
