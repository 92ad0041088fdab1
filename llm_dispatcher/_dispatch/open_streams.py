"""The open streams of a switch, so that closing the switch ends them.

Any thread may add a stream while another one closes the switch, so `_lock` guards the set; it is held for moments. A
stream that is over leaves the set when its watchdog is collected. `end` ends the streams of the running loop only.
"""

from __future__ import annotations

import asyncio
from threading import Lock
from weakref import WeakSet

from .watchdog import Watchdog


class OpenStreams:
    """The watchdogs of all streams that are being read, in whichever loop."""

    def __init__(self) -> None:
        self._watchdogs: WeakSet[Watchdog] = WeakSet()
        self._lock = Lock()

    def add(self, watchdog: Watchdog) -> None:
        """A stream begins to be read."""
        with self._lock:
            self._watchdogs.add(watchdog)

    async def end(self) -> None:
        """End the streams of the running loop. Returns when those that wait for a vendor have closed their connections.

        Their readers get a `StreamingError`. A reader that is at work on a chunk gets it when it asks for the next one.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            watchdogs = list(self._watchdogs)
        released = [future for dog in watchdogs if dog.loop is loop and (future := dog.end()) is not None]
        if released:
            await asyncio.wait(released)
