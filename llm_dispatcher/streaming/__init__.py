"""What an application uses to watch its streams: callbacks, progress, and observers of its own."""

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
