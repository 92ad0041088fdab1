"""A token bucket, and a number of slots: what rate limits are made of."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from threading import Lock

from .._cancellation import cancellations, was_cancelled
from ..provider import LONGEST_WAIT


class TokenBucket:
    """Refills steadily, up to what a minute allows. A request may take more than is there: then the next request waits
    until the bucket has made up for it, but never longer than `LONGEST_WAIT`.
    """

    def __init__(self, a_minute: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._capacity = a_minute
        self._a_second = a_minute / 60
        self._level = a_minute
        self._at = clock()

    def seconds_until(self, amount: float) -> float:
        """Seconds until so much is there. (More than a full bucket is never there: a full one has to do.)"""
        lacking = min(amount, self._capacity) - self._now()
        return lacking / self._a_second if lacking > 0 else 0.0

    def take(self, amount: float) -> None:
        """Take so much, or put back what is less than nothing."""
        self._level = max(min(self._now() - amount, self._capacity), -LONGEST_WAIT * self._a_second)

    def believe(self, left: float, limit: float, full_in: float) -> None:
        """Be as full as the vendor says."""
        self._capacity = max(limit, 1.0)
        self._level, self._at = left, self._clock()
        lacking = self._capacity - left
        self._a_second = lacking / full_in if lacking > 0 and full_in > 0 else self._capacity / 60

    def _now(self) -> float:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._a_second)
        self._at = now
        return self._level


class Semaphore:
    """So many at a time; who comes when all are taken waits in line. They may come from several loops."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._taken = 0
        self._line: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._lock = Lock()

    @property
    def are_taken(self) -> bool:
        return self._taken >= self.count

    async def take(self, patience: float) -> bool:
        """Take one; false where that took longer than there was patience for."""
        with self._lock:
            if self._taken < self.count:
                self._taken += 1
                return True
            if patience <= 0:
                return False
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            self._line.append((loop, turn))
        timer = loop.call_later(patience, turn.cancel)
        before = cancellations()
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                if (loop, turn) in self._line:
                    self._line.remove((loop, turn))
                elif turn.done() and not turn.cancelled():
                    self._pass_on()  # it was given, and nobody is here to use it
            if was_cancelled(before):
                raise
            return False  # the timer cancelled the wait
        finally:
            timer.cancel()
        return True

    def give(self) -> None:
        """Somebody has left."""
        with self._lock:
            self._pass_on()

    def resize(self, count: int) -> None:
        """There are more from now on, or fewer: nobody who has one loses it."""
        with self._lock:
            self.count = count
            for _ in range(min(len(self._line), max(0, count - self._taken))):
                self._taken += 1
                self._pass_on()

    def _pass_on(self) -> None:
        while self._line and self._taken <= self.count:
            loop, turn = self._line.popleft()
            try:
                loop.call_soon_threadsafe(_call, turn, self)
            except RuntimeError:
                continue  # that loop is closed
            return
        self._taken -= 1


def _call(turn: asyncio.Future[None], slots: Semaphore) -> None:
    if turn.done():
        slots.give()  # it has lost patience meanwhile
    else:
        turn.set_result(None)
