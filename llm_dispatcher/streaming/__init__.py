"""Callbacks, progress trackers and observers: the ways in which an application watches its streams."""

from ._account import Account
from ._callbacks import StreamingCallbacks
from ._metadata import ChunkMetadata, StreamMetadata
from ._observe import ObservedCall, Observer, Watcher
from ._progress import ProgressTracker

__all__ = [
    "Account",
    "ChunkMetadata",
    "ObservedCall",
    "Observer",
    "ProgressTracker",
    "StreamMetadata",
    "StreamingCallbacks",
    "Watcher",
]
