"""The streams of a switch that are under way, so that closing it ends them."""

from __future__ import annotations

import asyncio
from threading import Lock
from weakref import WeakSet

from .watchdog import Clocks


class UnderWay:
    """Knows the clocks of every stream that is being read, whichever loop reads it.

    Other threads may begin streams while one of them closes the switch. So `_lock` guards the set; it is held for
    moments.
    """

    def __init__(self) -> None:
        self._clocks: WeakSet[Clocks] = WeakSet()
        self._lock = Lock()

    def add(self, clocks: Clocks) -> None:
        with self._lock:
            self._clocks.add(clocks)

    async def end(self) -> None:
        """End the streams of the running loop, and return when those that wait have closed their connections.

        Their readers get a `StreamingError`. One whose reader is at work on a chunk gets it when it asks for more.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            under_way = list(self._clocks)
        ending = [over for clocks in under_way if clocks.loop is loop and (over := clocks.stop()) is not None]
        if ending:
            await asyncio.wait(ending)
