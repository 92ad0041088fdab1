"""The timeouts of a stream: one timer serves all of its clocks.

How it works
------------
The task that reads the stream calls `arm(clock)` before it waits for the vendor, and `disarm()` when it has something
to show. Only that task calls them. A timer cancels the task when a deadline passes. The task then calls `fired()`,
which tells this cancellation from anybody else's and takes it back. If somebody else has cancelled the task as well,
the other cancellation wins and the watchdog stays silent (`_cancellation.py` explains the counting).

`asyncio.timeout` around each wait would cost more than everything else that is done for a chunk. Here the timer is set
for the nearest deadline. Each chunk moves the deadline on and leaves the timer alone; when the timer fires too early,
it is set again. So a stream needs a handful of timers, however many chunks it has.

Clocks leave time for the next attempt. While another target can still be asked, a target has its share of the time that
`total` has left: connecting and everything else up to its first content has to come within it. A silence or a drip in
the middle of an answer ends early enough for another attempt to succeed.

The `flow` clock exists only in an attempt with a `FlowMeter`: only then does a chunk cost more. Its deadline moves on
with each chunk too. A new stretch may end earlier than the one before would have, so it sets the timer anew.

Closing the switch calls `end()`, in the loop of the stream. It cancels the current wait and refuses new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from typing import Final, Literal, TypeAlias

from .._cancellation import cancellations, forgiven
from .._resilience import Timeouts
from .._upstream import Deadline
from .._usage import Usage
from ..exceptions import StreamingError
from .flow import Content, FlowMeter

Clock: TypeAlias = Literal["first_token", "idle", "flow", "total"]

Cause: TypeAlias = Clock | Literal["closed"]
"""Why the watchdog ended a wait for a vendor: a clock ran out, or the switch was closed."""

RESOLUTION: Final = 0.001
"""Seconds by which a timer may be early."""
GRACE: Final = 0.001
"""Seconds more in which a loop that was busy with other work reads what has come meanwhile."""
PAUSE: Final = 1.0
"""Seconds for which a healthy vendor may pause. No share of the time is shorter, unless `total` is short."""


class Watchdog:
    """Cancels the reading task when a deadline passes, and can tell its own cancellation from the caller's."""

    def __init__(self, timeouts: Timeouts, deadline: Deadline | None = None) -> None:
        self.loop: Final = asyncio.get_running_loop()
        self.timeouts = timeouts
        """The configured clocks of the target."""
        # A clock that is not set is infinite, so that no comparison needs a special case.
        self._seconds: Final[dict[Clock, float]] = {
            "first_token": _or_endless(timeouts.first_token),
            "idle": _or_endless(timeouts.idle),
            "total": _or_endless(timeouts.total),
        }
        self._deadline: Final = Deadline(timeouts.total) if deadline is None else deadline
        self._shortest_share: Final = min(PAUSE, self._seconds["total"] / 8)
        self._turn_end = inf
        self._is_last_of_several = False
        self._chances = 0
        self.flow: FlowMeter | None = None
        """Measures the answer of this attempt. `None` if its speed does not matter: then nothing is counted."""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._clock: Literal["first_token", "idle"] | None = None
        self._since = 0.0
        self._has_fired = self._is_ended = False
        self._released: asyncio.Future[None] | None = None

    # ── what each attempt may take ─────────────────────────────────────────────────────────────────────────────────

    def begin_target(self, timeouts: Timeouts, others: int, *, is_first: bool) -> None:
        """A target has its turn, with clocks of its own. `others` is how many targets can still be asked after it.

        While there are others, all tries of this target together get its share of the time that is left. The last
        target may use all of it.
        """
        self.timeouts = timeouts
        self._seconds["idle"] = _or_endless(timeouts.idle)
        self._is_last_of_several = others == 0 and not is_first
        self.renew_turn(others)

    def renew_turn(self, others: int) -> None:
        """The target has delivered some of an answer, and may go on: it gets its share of the time that is left now."""
        self._turn_end = self.loop.time() + (self._end - self.loop.time()) / (1 + others)

    def begin_attempt(self, others: int, chances: int) -> None:
        """An attempt begins. `others` is how many targets can still be asked after this one, `chances` how many
        attempts could continue its answer if it breaks. A slow answer is better than none, so `flow` needs a chance.
        """
        self._chances = chances
        flow = self.timeouts.flow
        self.flow = None if flow is None or not chances else FlowMeter(flow, self._share)
        seconds = _or_endless(self.timeouts.first_token)
        if self._end < inf and self._is_last_of_several:
            seconds = inf  # `total` fires first, also after it was moved to a later time
        elif self._end < inf and others:
            seconds = min(seconds, self._turn_end - self.loop.time())
        self._seconds["first_token"] = seconds

    @property
    def _end(self) -> float:
        """When `total` fires. A stream that several calls read may get more time while it is open."""
        return self._deadline.end

    @property
    def now(self) -> float:
        """The time of the loop."""
        return self.loop.time()

    def seconds(self, clock: Literal["first_token", "idle", "total"]) -> float:
        """How long a clock runs in this attempt."""
        seconds = self._seconds[clock]
        return min(seconds, self._share()) if clock == "idle" and seconds < inf else seconds

    def _share(self) -> float:
        """The seconds that a wait in the middle of an answer may take, so that the attempts after it have time."""
        if not self._chances or self._end == inf:
            return inf
        return max((self._end - self._since) / (1 + self._chances), self._shortest_share)

    def left_for_a_try(self, others: int) -> float | None:
        """Seconds for which the stream may wait before a try of this target, in line for a rate limit or between
        retries. What is left after them belongs to that try and to the `others`. `None` if nothing bounds the wait.
        """
        if self._end == inf:
            return None
        end = self._turn_end - self._shortest_share if others else self._end
        return end - self.loop.time()

    @property
    def is_time_up(self) -> bool:
        """Whether the `total` clock has run out, as nearly as timers can tell."""
        return self._end - self.loop.time() < RESOLUTION

    # ── the task that reads ────────────────────────────────────────────────────────────────────────────────────────

    def arm(self, clock: Literal["first_token", "idle"]) -> None:
        """The running task begins to wait for a vendor."""
        if self._is_ended:
            raise switch_closed()
        loop = self.loop
        self._since = loop.time()
        # Every chunk may be read by another task, so this is asked each time. With the loop as argument it costs half.
        task = self._task = asyncio.current_task(loop)
        if task is not None:
            self._cancelling = task.cancelling()  # as `cancellations()`, which would look up the task again
        if clock != self._clock or self._timer is None:  # else the timer finds that the deadline has moved on
            self._clock = clock
            self._set_timer(self._next_deadline()[0])

    def disarm(self) -> None:
        """It is the reader's turn: nobody waits for a vendor."""
        self._task = None

    def count(self, meter: FlowMeter, content: Content) -> None:
        """Measure content that has just come, in an attempt whose speed matters. Called before its reader gets it."""
        now = self.loop.time()
        waited, self._since = now - self._since, now
        if meter.take(content, waited):
            meter.begin()
            self._clock = None  # the next wait looks at the timer

    def fired(self) -> Cause | None:
        """The cause of a `CancelledError` that was just caught, if the watchdog caused it. The cancellation is then
        taken back. `None` if anybody else has cancelled the task.
        """
        if not self._has_fired:
            return None
        self._has_fired = False
        if not forgiven(self._cancelling):
            return None
        return "closed" if self._is_ended else self._next_deadline()[1]

    @contextmanager
    def ends_with_the_switch(self) -> Generator[None, None, None]:
        """Wait for something other than a vendor's answer: no clock runs, but closing the switch ends the wait."""
        if self._is_ended:
            raise switch_closed()
        self._task, self._cancelling = asyncio.current_task(self.loop), cancellations()
        self._clock = None
        try:
            yield
        except asyncio.CancelledError:
            if self.fired() is None:
                raise
            raise switch_closed() from None
        finally:
            self._task = None

    def release(self) -> None:
        """The vendor's stream is closed. Whoever closes the switch does not have to wait for the reader as well."""
        self._task = None
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    def close(self) -> None:
        """The stream is over. This cancels the timer, which would keep the stream in memory until it fires."""
        self.release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ── closing the switch ─────────────────────────────────────────────────────────────────────────────────────────

    def end(self) -> asyncio.Future[None] | None:
        """The switch is being closed: cancel the current wait and refuse new ones.

        Returns a future that is done when the vendor's stream is closed, or `None` if the task waits for nothing.
        """
        self._is_ended = True
        if self._task is None:
            return None
        self._released = self._released or self.loop.create_future()
        if not self._has_fired:  # else a clock has just cancelled the task, and a second time would look like a caller
            self._has_fired = True
            self._task.cancel()
        return self._released

    # ── the timer ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _next_deadline(self) -> tuple[float, Clock]:
        """When the current wait has taken too long, and which clock says so."""
        if self._clock is None:
            return inf, "total"
        cause: Clock = self._clock
        deadline = self._since + self.seconds(self._clock)
        if cause == "idle" and self.flow is not None and (flow_ends := self._since + self.flow.left) < deadline:
            deadline, cause = flow_ends, "flow"
        return (self._end, "total") if self._end <= deadline else (deadline, cause)

    def _set_timer(self, deadline: float, overdue: tuple[float, float] | None = None) -> None:
        """Set the timer for a deadline, unless it fires before that anyway."""
        if self._timer is not None and self._timer.when() <= deadline:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline == inf else self.loop.call_at(deadline, self._on_timer, overdue)

    def _on_timer(self, overdue: tuple[float, float] | None) -> None:
        self._timer = None
        task, (deadline, _), now = self._task, self._next_deadline(), self.loop.time()
        if task is None or self._has_fired:
            return  # the reader is at work, and the next wait sets the timer again; or the task is cancelled already
        if now < deadline:
            self._set_timer(deadline)
        elif overdue != (deadline, self._since):
            # Something may have held up the loop: then what the vendor has sent in time lies unread in the socket.
            self._set_timer(now + GRACE, overdue=(deadline, self._since))
        else:
            self._has_fired = True
            task.cancel()


def _or_endless(seconds: float | None) -> float:
    return inf if seconds is None else seconds


class SwitchClosedError(StreamingError):
    """Ends the stream of a switch that was closed. Only the loop sees it: its reader gets a plain `StreamingError`."""


def switch_closed() -> SwitchClosedError:
    """The error of a stream whose switch was closed."""
    return SwitchClosedError("the switch was closed while this stream was under way", partial="", usage=Usage())
