"""A token bucket and a semaphore: what rate limits are made of.

Several event loops, in several threads, may use one limit. A bucket holds a few numbers and is used without a lock: two
threads at the same moment can at worst lose one request's tokens, which the next report of the vendor corrects. The
semaphore has a lock, because a slot that is lost would be lost for ever.

A task that waits for a slot has a future in the line. Whoever gives back a slot passes it on to the first in the line,
in the loop of that task. If the task was cancelled or has run out of patience in the meantime, the slot goes on to the
next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from threading import Lock

from .._cancellation import cancellations, was_cancelled
from ..provider import LONGEST_WAIT


class TokenBucket:
    """Refills steadily, up to what a minute allows.

    A request may take more than the bucket holds. Then the next request waits until the bucket has made up for it, but
    never longer than `LONGEST_WAIT`.

    What a vendor reports holds until the moment at which it said that all would be available again. If it has reported
    nothing more by then, the bucket refills as one for a minute does, so that one absurd report slows a target down
    for its own time only.
    """

    def __init__(self, a_minute: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._capacity = a_minute
        self._a_second = a_minute / 60
        self._level = a_minute
        self._at = clock()
        self._most_owed = LONGEST_WAIT * self._a_second
        self._reported_until = inf

    def seconds_until(self, amount: float) -> float:
        """Seconds until the bucket holds an amount. If the amount is more than a full bucket, until it is full."""
        missing = min(amount, self._capacity) - self._current_level()
        return missing / self._a_second if missing > 0 else 0.0

    def take(self, amount: float, seconds: float = 0.0) -> None:
        """Take an amount out, or put one back if it is negative.

        Args:
            amount: How much.
            seconds: Seconds until it is used. The bucket is at most full at that moment, so that requests that wait
                for the same moment are together no more than a full bucket.
        """
        full = self._capacity - seconds * self._a_second
        level = min(min(self._current_level(), full) - amount, self._capacity)
        self._level = max(level, -self._most_owed)

    def set_level(self, left: float, limit: float, full_in: float) -> None:
        """Take over what the vendor has reported: how much is left, of how much, and when it is full again."""
        self._capacity = max(limit, 1.0)
        self._level, self._at = left, self._clock()
        missing = self._capacity - left
        self._a_second = missing / full_in if missing > 0 and full_in > 0 else self._capacity / 60
        # A vendor takes no request above its limit, so no more can be owed.
        self._most_owed = min(LONGEST_WAIT * self._a_second, self._capacity)
        self._reported_until = self._at + full_in

    def _current_level(self) -> float:
        now = self._clock()
        if now >= self._reported_until:
            self._a_second = max(self._a_second, self._capacity / 60)
            self._most_owed, self._reported_until = self._capacity, inf
        self._level = min(self._capacity, self._level + (now - self._at) * self._a_second)
        self._at = now
        return self._level


class Semaphore:
    """A number of slots, and a line of tasks that wait for one. The tasks may belong to several loops."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._used_slots = 0
        self._line: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._lock = Lock()

    @property
    def is_full(self) -> bool:
        """Whether all slots are taken."""
        return self._used_slots >= self.count

    async def acquire(self, patience: float) -> bool:
        """Take a slot. False if none became free within `patience` seconds."""
        with self._lock:
            if self._used_slots < self.count:
                self._used_slots += 1
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
                    self._pass_on()  # this task has got a slot, and does not use it
            if was_cancelled(before):
                raise
            return False  # the timer cancelled the wait
        finally:
            timer.cancel()
        return True

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._pass_on()

    def resize(self, count: int) -> None:
        """Change the number of slots. Taken slots stay taken."""
        with self._lock:
            self.count = count
            for _ in range(min(len(self._line), max(0, count - self._used_slots))):
                self._used_slots += 1
                self._pass_on()

    def _pass_on(self) -> None:
        """Give a taken slot to the first in the line, or make it free. `_lock` is held."""
        while self._line and self._used_slots <= self.count:
            loop, turn = self._line.popleft()
            try:
                loop.call_soon_threadsafe(_grant, turn, self)
            except RuntimeError:
                continue  # that loop is closed
            return
        self._used_slots -= 1


def _grant(turn: asyncio.Future[None], semaphore: Semaphore) -> None:
    """Let a task have the slot that was passed on to it. This runs in the loop of the task."""
    if turn.done():
        semaphore.release()  # the task has stopped waiting in the meantime
    else:
        turn.set_result(None)
