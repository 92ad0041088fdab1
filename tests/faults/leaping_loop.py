"""An event loop whose clock leaps: where nobody has anything to do until a timer, it is that time at once.

Client and vendors run in one loop and speak over loopback sockets, so whatever was sent has arrived. A stall of a
second takes no time, and a machine that is slow makes no clock ring.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

MOMENT: Final = 0.001
"""Real seconds in which the kernel may still deliver what is under way, before the clock leaps."""


class _LeapingSelector(selectors.DefaultSelector):
    """Waits for sockets; where they would keep it waiting for a timer, the clock goes there instead."""

    def __init__(self) -> None:
        super().__init__()
        self.leapt = 0.0
        self.working = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.working:  # nobody waits for a clock, or a thread is at work, which leaps not
            return super().select(timeout)
        has_sockets = len(self.get_map()) > 1  # the first is the loop's own, by which threads wake it
        if has_sockets and (ready := super().select(min(MOMENT, timeout))):
            return ready
        self.leapt += timeout
        return []


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop over such a selector."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Only leaps are time: what the machine takes to get there is none."""
        return self._leaping.leapt

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        self._leaping.working += 1
        done = super().run_in_executor(executor, func, *args)
        done.add_done_callback(self._worked)
        return done

    def _worked(self, done: asyncio.Future[Any]) -> None:
        self._leaping.working -= 1


def leap_through(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run this in a loop of that kind."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(work())
