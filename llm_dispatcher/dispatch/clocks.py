"""One timer a stream serves every clock."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from typing import Final, Literal, TypeAlias

from ..config.policy import Timeouts
from ..events import Usage
from ..exceptions import StreamingError

Clock: TypeAlias = Literal["first_token", "idle", "total"]

Rang: TypeAlias = Clock | Literal["closed"]
"""Why the wait for a vendor was ended: by a clock, or because the switch was closed."""

RESOLUTION: Final = 0.001
"""Seconds by which a timer may be early."""
GRACE: Final = 0.001
"""Seconds more in which a loop that was busy elsewhere reads what has come meanwhile."""


class Clocks:
    """Cancels the task that waits on a vendor for too long, and knows that it was this and not the reader.

    `asyncio.timeout` around each wait costs more than the rest of a chunk's way. Here one timer is armed for the
    nearest deadline; as deadlines move on with every chunk it finds, when it fires, that it has time left, and is armed
    anew: a handful of timers a stream, however many chunks.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self._timeouts: Final = timeouts
        # A clock that is not set is set to infinity: so nobody has to ask.
        self._seconds: Final[dict[Clock, float]] = {
            "first_token": _or_endless(timeouts.first_token),
            "idle": _or_endless(timeouts.idle),
            "total": _or_endless(timeouts.total),
        }
        self._end: Final = self.loop.time() + self._seconds["total"]
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._clock: Literal["first_token", "idle"] | None = None
        self._since = 0.0
        self._rang = self._stopped = False
        self._over: asyncio.Future[None] | None = None

    def share(self, place: int, targets: int) -> None:
        """How long the next first token may take, from the target in this place of several.

        While there are others left, a target may take no more than its share of what remains, so that a switch comes
        in time. The last of several may take all that remains: there is nobody else to ask.
        """
        seconds, left = _or_endless(self._timeouts.first_token), self._end - self.loop.time()
        if left < inf and targets > 1:
            remaining = targets - place
            seconds = left if remaining == 1 else min(left / remaining, seconds)
        self._seconds["first_token"] = seconds

    @property
    def now(self) -> float:
        return self.loop.time()

    def seconds(self, clock: Clock) -> float:
        """What a clock is set to."""
        return self._seconds[clock]

    @property
    def left(self) -> float | None:
        """Seconds that the `total` clock has left."""
        return None if self._end == inf else self._end - self.loop.time()

    @property
    def are_over(self) -> bool:
        """Whether the `total` clock has run out, as nearly as timers can tell."""
        return self._end - self.loop.time() < RESOLUTION

    def wait(self, clock: Literal["first_token", "idle"]) -> None:
        """The running task is about to wait on a vendor."""
        if self._stopped:
            raise closed()
        loop = self.loop
        self._since = loop.time()
        # (Told its loop, this costs half; and it is asked for each chunk, because chunks may be read by many tasks.)
        task = self._task = asyncio.current_task(loop)
        if task is not None:
            self._cancelling = task.cancelling()
        if clock != self._clock or self._timer is None:  # (else the deadline moves on, as the timer will find)
            self._clock = clock
            self._arm(self._due()[0])

    def rest(self) -> None:
        """It is the reader's turn: nobody waits on a vendor."""
        self._task = None

    def rang(self) -> Rang | None:
        """Whether a `CancelledError` just caught was this object's doing, and why; then it is forgiven."""
        if not self._rang:
            return None
        self._rang = False
        task = asyncio.current_task()
        if task is not None and task.uncancel() > self._cancelling:
            return None  # somebody else cancelled as well, and goes first
        return "closed" if self._stopped else self._due()[1]

    @contextmanager
    def unless_closed(self) -> Generator[None, None, None]:
        """While something other than a vendor's answer is awaited, no clock runs, but closing the switch ends it."""
        if self._stopped:
            raise closed()
        task = self._task = asyncio.current_task(self.loop)
        self._clock = None
        if task is not None:
            self._cancelling = task.cancelling()
        try:
            yield
        except asyncio.CancelledError:
            if self.rang() is None:
                raise
            raise closed() from None
        finally:
            self._task = None

    def stop(self) -> asyncio.Future[None] | None:
        """The switch is being closed: whoever waits, waits no longer, and who comes to wait does not begin to.

        Returns what is done when the stream is over, if somebody waits.
        """
        self._stopped = True
        if self._task is None:
            return None
        self._over = self._over or self.loop.create_future()
        if not self._rang:  # (else a clock has cancelled it a moment ago, and twice would be somebody else)
            self._rang = True
            self._task.cancel()
        return self._over

    def close(self) -> None:
        self._task = None
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> tuple[float, Clock]:
        """When the wait has taken too long, and by which clock."""
        if self._clock is None:
            return inf, "total"
        deadline = self._since + self._seconds[self._clock]
        return (self._end, "total") if self._end <= deadline else (deadline, self._clock)

    def _arm(self, deadline: float, overdue: float | None = None) -> None:
        """Have a timer ring at a deadline, unless one rings before it anyway."""
        if self._timer is not None and self._timer.when() <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline == inf else self.loop.call_at(deadline, self._ring, overdue)

    def _ring(self, overdue: float | None) -> None:
        self._timer = None
        task, (deadline, _), now = self._task, self._due(), self.loop.time()
        if task is None:
            return  # the reader is at work; the next wait arms a timer again
        if now < deadline:
            self._arm(deadline)
        elif deadline != overdue:
            # Where something held up the loop, what the vendor said in time may lie unread in the socket.
            self._arm(now + GRACE, overdue=deadline)
        else:
            self._rang = True
            task.cancel()


def _or_endless(seconds: float | None) -> float:
    return inf if seconds is None else seconds


def closed() -> StreamingError:
    """The error of a stream whose switch was closed."""
    return StreamingError("the switch was closed while this stream was under way", partial="", usage=Usage())
