"""`Timers`: the timers of a simulated loop, in the order in which they are due.

A timer that was cancelled stays in the heap and is dropped when it would be due. Only the loop uses this.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Iterator
from heapq import heappop, heappush


class Timers:
    """The timers that are set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerHandle]] = []

    def add(self, time: float, number: int, timer: TimerHandle) -> None:
        """Set a timer. Of two timers that are due in one moment, the one with the smaller number comes first."""
        timer._scheduled = True  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio's own loop does
        heappush(self._heap, (time, number, timer))

    def next_time(self) -> float | None:
        """The virtual second at which the next timer is due, or `None` if no timer is set."""
        while self._heap and self._heap[0][2].cancelled():
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, time: float) -> Iterator[tuple[int, TimerHandle]]:
        """Take the timers that are due at a virtual second, each with its number."""
        while self._heap and self._heap[0][0] <= time:
            _, number, timer = heappop(self._heap)
            timer._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001 - as asyncio's own loop does
            if not timer.cancelled():
                yield number, timer

    def all(self) -> list[TimerHandle]:
        """The timers that are set, in the order in which they are due."""
        return [timer for _, _, timer in sorted(self._heap) if not timer.cancelled()]

    def clear(self) -> object:
        """Drop all timers, and return them."""
        heap, self._heap = self._heap, []
        return heap
