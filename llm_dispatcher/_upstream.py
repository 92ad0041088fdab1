"""Where a cache gets the answers that it does not have, and the deadline for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from math import inf
from typing import Final

from msgspec import Struct

from .events import Event


class Deadline:
    """When a call has to be complete, on the clock of the running loop. Without `seconds` it never has to be.

    A stream that several calls read has one deadline, and it moves to the latest of theirs: whoever lets a call join
    `extend`s it. It never becomes earlier. Only the loop's own thread reads or moves it.
    """

    __slots__ = ("_loop", "end", "seconds")

    def __init__(self, seconds: float | None = None) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self.seconds: Final = inf if seconds is None else seconds
        self.end = self._loop.time() + self.seconds

    def extend(self, other: Deadline) -> None:
        """Let this one last as long as another one, if that is later."""
        self.end = max(self.end, other.end)

    def call(self, ring: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Call a function when the time is over, as it is set now."""
        return None if self.end == inf else self._loop.call_at(self.end, ring)


class Upstream(Struct, frozen=True):
    """Where the events of an answer come from. Calling it gives a stream that asks the targets when it is read.

    `models` says of each target what it really is: under another alias or at another address, a target of the same name
    is another model. The stream obeys the `deadline`, also after that has moved to a later time.
    """

    open: Callable[[], Awaitable[AsyncGenerator[Event, None]]]
    models: tuple[str, ...] = ()
    deadline: Deadline | None = None

    async def __call__(self) -> AsyncGenerator[Event, None]:
        async with aclosing(await self.open()) as events:
            async for event in events:
                yield event
