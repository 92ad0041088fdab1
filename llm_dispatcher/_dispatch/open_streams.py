"""The open streams of a switch, so that closing the switch ends them, and of each of its runtimes.

Any thread may add or remove a stream while another one closes the switch, so `_lock` guards the watchdogs; it is held
for moments. The loop removes a stream when it is over. A stream that was dropped unfinished, in a loop that has ended,
is forgotten when its watchdog is collected. `end` ends the streams of the running loop only, in the order in which they
began.
See docs/decisions/0013.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from weakref import WeakKeyDictionary

from .watchdog import Watchdog


class OpenStreams:
    """The watchdogs of all streams that are being read, in whichever loop.

    Args:
        whole: Where each stream is added as well, if these are a part of the streams of a switch.
        when_empty: Called after the last stream was removed, in whichever thread read it.
    """

    def __init__(self, whole: OpenStreams | None = None, when_empty: Callable[[], None] | None = None) -> None:
        self._whole = whole
        self._when_empty = when_empty
        self._watchdogs: WeakKeyDictionary[Watchdog, None] = WeakKeyDictionary()  # unlike a set, it has an order
        self._errands: set[asyncio.Task[None]] = set()
        self._lock = Lock()

    @property
    def is_empty(self) -> bool:
        """Whether no stream is open."""
        with self._lock:
            return not self._watchdogs

    def add(self, watchdog: Watchdog) -> None:
        """A stream begins to be read."""
        with self._lock:
            self._watchdogs[watchdog] = None
        if self._whole is not None:
            self._whole.add(watchdog)

    def remove(self, watchdog: Watchdog) -> None:
        """A stream is over."""
        if self._whole is not None:
            self._whole.remove(watchdog)
        with self._lock:
            self._watchdogs.pop(watchdog, None)
            is_empty = not self._watchdogs
        if is_empty and self._when_empty is not None:
            self._when_empty()

    def wait_for(self, task: asyncio.Task[None]) -> None:
        """Keep a task that outlives its stream. `end` waits for those of its loop."""
        with self._lock:
            self._errands.add(task)
        task.add_done_callback(self._forget)
        if self._whole is not None:
            self._whole.wait_for(task)

    def _forget(self, task: asyncio.Task[None]) -> None:
        with self._lock:
            self._errands.discard(task)

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
        with self._lock:
            errands = [task for task in self._errands if task.get_loop() is loop]
        if errands:
            await asyncio.wait(errands)
