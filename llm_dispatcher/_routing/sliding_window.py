"""Counting within a sliding window of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

SLOTS: Final = 10


class SlidingWindow:
    """How much was counted in the last `seconds`. What is older is dropped, a tenth of the window at a time."""

    __slots__ = ("_clock", "_slots", "_total", "_width")

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._width = seconds / SLOTS
        self._clock = clock
        self._slots: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, amount: int = 1) -> None:
        """Count an amount now."""
        now = self._drop_old()
        before = self._slots.pop()[1] if self._slots and self._slots[-1][0] == now else 0
        self._slots.append((now, before + amount))
        self._total += amount

    @property
    def total(self) -> int:
        """How much was counted within the window."""
        self._drop_old()
        return self._total

    def clear(self) -> None:
        """Forget all that was counted."""
        self._slots.clear()
        self._total = 0

    def _drop_old(self) -> int:
        now = int(self._clock() / self._width)
        while self._slots and self._slots[0][0] <= now - SLOTS:
            self._total -= self._slots.popleft()[1]
        return now
