"""`Lanes`: the callbacks of a loop that are ready, and the draw of the next one.

A lane is a line of callbacks that run in their order. Lanes have numbers, and the draw is among the sorted numbers, so
it does not depend on the order in which lanes became ready.
"""

from __future__ import annotations

from array import array
from asyncio import Handle
from bisect import insort
from collections import deque
from typing import Final

from .choices import Choices

STICKINESS: Final = (0.0, 0.0, 0.5, 0.9)
"""How often the loop goes on with the lane that it ran last, if that is ready."""


class Lanes:
    """The callbacks that are ready."""

    def __init__(self, choices: Choices) -> None:
        self.current = 0
        """The lane of the callback that is running."""
        self.order: Final = array("Q")
        """The lane of each callback that has run."""
        self._choices = choices
        self._stickiness = choices.pick(STICKINESS, "order")
        self._handles: dict[int, deque[Handle]] = {}
        self._ready: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._ready)

    def put(self, lane: int, handle: Handle) -> None:
        """Add a callback to the end of a lane."""
        handles = self._handles.get(lane)
        if handles is None:
            self._handles[lane] = deque((handle,))
            insort(self._ready, lane)
        else:
            handles.append(handle)

    def take(self) -> Handle:
        """Draw a lane and take its first callback."""
        ready = self._ready
        place = 0
        if len(ready) > 1:
            is_kept = (
                self._stickiness and self.current in self._handles and self._choices.chance(self._stickiness, "order")
            )
            place = ready.index(self.current) if is_kept else self._choices.below(len(ready), "order")
        lane = self.current = ready[place]
        handles = self._handles[lane]
        handle = handles.popleft()
        if not handles:
            del self._handles[lane]
            del ready[place]
        self.order.append(lane)
        return handle

    def clear(self) -> object:
        """Drop all callbacks, and return them."""
        handles, self._handles, self._ready = self._handles, {}, []
        return handles
