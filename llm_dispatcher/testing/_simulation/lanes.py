"""`Lanes`: the callbacks of a loop that are ready, and the draw of the next one.

A lane is a line of callbacks that run in their order. Lanes have numbers, and the draw is among the sorted numbers, so
it does not depend on the order in which lanes became ready.
"""

from __future__ import annotations

from array import array
from asyncio import Handle
from bisect import insort
from collections import deque
from typing import Final, Literal, TypeAlias

from .choices import Choices

Habit: TypeAlias = Literal["even", "same", "oldest", "newest"]

HABITS: Final[tuple[tuple[Habit, float], ...]] = (
    ("even", 1.0),
    ("even", 1.0),
    ("same", 0.5),
    ("same", 0.9),
    ("oldest", 0.8),
    ("newest", 0.8),
)
"""Which lane a run prefers, and how often. With "even", all lanes are drawn alike. "same" goes on with the lane that
ran last. "oldest" and "newest" starve all other lanes, so that one of them lags behind for long.
"""


class Lanes:
    """The callbacks that are ready."""

    def __init__(self, choices: Choices) -> None:
        self.current = 0
        """The lane of the callback that is running."""
        self.order: Final = array("Q")
        """The lane of each callback that has run."""
        self._choices = choices
        self._habit, self._how_often = choices.pick(HABITS, "order")
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
        place = self._drawn_place() if len(ready) > 1 else 0
        lane = self.current = ready[place]
        handles = self._handles[lane]
        handle = handles.popleft()
        if not handles:
            del self._handles[lane]
            del ready[place]
        self.order.append(lane)
        return handle

    def _drawn_place(self) -> int:
        ready, choices = self._ready, self._choices
        if self._habit != "even" and choices.chance(self._how_often, "order"):
            if self._habit == "same" and self.current in self._handles:
                return ready.index(self.current)
            if self._habit != "same":
                return 0 if self._habit == "oldest" else len(ready) - 1
        return choices.below(len(ready), "order")

    def clear(self) -> object:
        """Drop all callbacks, and return them."""
        handles, self._handles, self._ready = self._handles, {}, []
        return handles
