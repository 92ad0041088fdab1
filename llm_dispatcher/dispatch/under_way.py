"""The streams of a switch that are under way, so that closing it ends them."""

from __future__ import annotations

import asyncio
from weakref import WeakSet

from .clocks import Clocks


class UnderWay:
    """Knows the clocks of every stream that is being read, whichever loop reads it."""

    def __init__(self) -> None:
        self._clocks: WeakSet[Clocks] = WeakSet()

    def add(self, clocks: Clocks) -> None:
        self._clocks.add(clocks)

    async def end(self) -> None:
        """End the streams of the running loop, and return when those that wait have closed their connections.

        Their readers get a `StreamingError`. One whose reader is at work on a chunk gets it when it asks for more.
        """
        loop = asyncio.get_running_loop()
        # (A copy, because other threads' streams come and go meanwhile.)
        ending = [over for clocks in list(self._clocks) if clocks.loop is loop and (over := clocks.stop()) is not None]
        if ending:
            await asyncio.wait(ending)
