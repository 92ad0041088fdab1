"""A cache that would rather pay than serve the answer to another question."""

from .likeness import Likeness, alike
from .sqlite import SQLiteStore
from .stats import CacheStats
from .store import Kept, MemoryStore, Row, Store
from .streaming_cache import StreamingCache

__all__ = ["CacheStats", "Kept", "Likeness", "MemoryStore", "Row", "SQLiteStore", "Store", "StreamingCache", "alike"]
