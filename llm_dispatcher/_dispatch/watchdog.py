"""One timer a stream serves every clock.

How it works: the task that reads the stream says `wait(clock)` before it waits for the vendor, and `rest()` when it has
something to show. Only that task calls them. A timer cancels the task when a deadline passes; the task then asks
`rang()`, which tells this cancellation from a cancellation by anybody else. If both happened, the other one wins.

Clocks leave time for the next attempt. While somebody else can be asked, a target has its share of what `total` has
left, and a silence in mid-answer ends early enough for another attempt to succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from typing import Final, Literal, TypeAlias

from .._policy import Timeouts
from .._upstream import Deadline
from .._usage import Usage
from ..exceptions import StreamingError

Clock: TypeAlias = Literal["first_token", "idle", "total"]

Rang: TypeAlias = Clock | Literal["closed"]
"""Why the wait for a vendor was ended: by a clock, or because the switch was closed."""

RESOLUTION: Final = 0.001
"""Seconds by which a timer may be early."""
GRACE: Final = 0.001
"""Seconds more in which a loop that was busy elsewhere reads what has come meanwhile."""
PAUSE: Final = 1.0
"""Seconds for which a vendor that writes well may pause. No share of the time is shorter, unless `total` is short."""


class Clocks:
    """Cancels the task that waits on a vendor for too long, and knows that it was this and not the reader.

    `asyncio.timeout` around each wait costs more than the rest of a chunk's way. Here one timer is armed for the
    nearest deadline; as deadlines move on with every chunk it finds, when it fires, that it has time left, and is armed
    anew: a handful of timers a stream, however many chunks.
    """

    def __init__(self, timeouts: Timeouts, deadline: Deadline | None = None) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self._timeouts: Final = timeouts
        # A clock that is not set is set to infinity: so nobody has to ask.
        self._seconds: Final[dict[Clock, float]] = {
            "first_token": _or_endless(timeouts.first_token),
            "idle": _or_endless(timeouts.idle),
            "total": _or_endless(timeouts.total),
        }
        self._deadline: Final = Deadline(timeouts.total) if deadline is None else deadline
        self._least: Final = min(PAUSE, self._seconds["total"] / 8)
        self._turn_end = inf
        self.others = 0  # (the loop says how many targets can still be asked after this one)
        self._targets = self._chances = 0
        self._is_last_of_several = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._clock: Literal["first_token", "idle"] | None = None
        self._since = 0.0
        self._rang = self._stopped = False
        self._over: asyncio.Future[None] | None = None

    def begin_target(self, others: int) -> None:
        """A target has its turn; `others` are the targets that can still be asked after it.

        While there are others, all tries of this target together get its share of the time that is left. The last
        target may use all of it.
        """
        left = self._end - self.loop.time()
        self._turn_end = self.loop.time() + left / (1 + others)
        self._is_last_of_several = others == 0 and self._targets > 0
        self._targets += 1
        self.others = others

    def begin_attempt(self, chances: int) -> None:
        """An attempt begins; `chances` are the attempts that could continue its answer if it breaks."""
        self._chances = chances
        seconds = _or_endless(self._timeouts.first_token)
        if self._end < inf and self._is_last_of_several:
            seconds = inf  # `total` rings first, also where it moves to a later time
        elif self._end < inf and self.others:
            seconds = min(seconds, self._turn_end - self.loop.time())
        self._seconds["first_token"] = seconds

    @property
    def _end(self) -> float:
        """When `total` rings. A stream that several calls read may be given more time while it is under way."""
        return self._deadline.end

    @property
    def now(self) -> float:
        return self.loop.time()

    def seconds(self, clock: Clock) -> float:
        """How long a clock runs in this attempt."""
        seconds = self._seconds[clock]
        if clock != "idle" or not self._chances or max(seconds, self._end) == inf:
            return seconds
        share = (self._end - self._since) / (1 + self._chances)
        return min(seconds, max(share, self._least))

    def setting(self, clock: Literal["first_token", "idle"]) -> float | None:
        """The configured seconds of a clock."""
        return self._timeouts.first_token if clock == "first_token" else self._timeouts.idle

    @property
    def left(self) -> float | None:
        """Seconds that the `total` clock has left."""
        return None if self._end == inf else self._end - self.loop.time()

    @property
    def left_for_a_try(self) -> float | None:
        """Seconds for which a try of this target may be waited for, be it in line for a rate limit or between retries.
        What is left after them belongs to that try and to the other targets.
        """
        if self._end == inf or not self.others:
            return self.left
        return self._turn_end - self._least - self.loop.time()

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

        Returns what is done when the vendor's stream is closed, if somebody waits.
        """
        self._stopped = True
        if self._task is None:
            return None
        self._over = self._over or self.loop.create_future()
        if not self._rang:  # (else a clock has cancelled it a moment ago, and twice would be somebody else)
            self._rang = True
            self._task.cancel()
        return self._over

    def leave(self) -> None:
        """The vendor's stream is closed. Whoever closes the switch has not to wait for the reader as well."""
        self._task = None
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def close(self) -> None:
        """The stream is over."""
        self.leave()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> tuple[float, Clock]:
        """When the wait has taken too long, and by which clock."""
        if self._clock is None:
            return inf, "total"
        deadline = self._since + self.seconds(self._clock)
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
        if task is None or self._rang:
            return  # the reader is at work, and the next wait arms a timer again; or the task was cancelled already
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


class SwitchClosedError(StreamingError):
    """Ends the stream of a switch that was closed. Only the loop sees it: its reader gets a plain `StreamingError`."""


def closed() -> SwitchClosedError:
    """The error of a stream whose switch was closed."""
    return SwitchClosedError("the switch was closed while this stream was under way", partial="", usage=Usage())
