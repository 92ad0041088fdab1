"""The tap: whatever watches a stream and decides nothing."""

from ._callbacks import StreamingCallbacks
from ._metadata import ChunkMetadata, StreamMetadata
from ._progress import ProgressTracker

__all__ = ["ChunkMetadata", "ProgressTracker", "StreamMetadata", "StreamingCallbacks"]
