"""`Upstream`: the source that a cache asks for answers that it does not have; `Deadline`: when a call must be complete.

A deadline is read and moved in the thread of its loop only, so it needs no lock.
"""

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

    A stream that several calls read has one deadline. When a call joins the stream, the cache `extend`s the deadline to
    that of the call. It never becomes earlier.
    """

    __slots__ = ("_loop", "end", "seconds")

    def __init__(self, seconds: float | None = None) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self.seconds: Final = inf if seconds is None else seconds
        self.end = self._loop.time() + self.seconds

    @property
    def left(self) -> float:
        """The seconds until then; negative if it has passed."""
        return self.end - self._loop.time()

    def extend(self, other: Deadline) -> None:
        """Move this deadline to another one, if that is later."""
        self.end = max(self.end, other.end)

    def call(self, ring: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Call a function at the current deadline. It is not called later if the deadline moves."""
        return None if self.end == inf else self._loop.call_at(self.end, ring)


class Upstream(Struct, frozen=True):
    """The source of the events of an answer. Calling it gives a stream that asks the targets when it is read.

    `models` identifies the model behind each target, because two targets of the same name can be different models
    (other alias, other address). The stream obeys the `deadline`, also after that has moved to a later time.
    """

    open: Callable[[], Awaitable[AsyncGenerator[Event, None]]]
    models: tuple[str, ...] = ()
    deadline: Deadline | None = None

    async def __call__(self) -> AsyncGenerator[Event, None]:
        async with aclosing(await self.open()) as events:
            async for event in events:
                yield event
