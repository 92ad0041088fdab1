"""The tap: whatever watches a stream and decides nothing."""

from .callbacks import StreamingCallbacks
from .metadata import ChunkMetadata, StreamMetadata
from .progress import ProgressTracker

__all__ = ["ChunkMetadata", "ProgressTracker", "StreamMetadata", "StreamingCallbacks"]
