"""The task that reads a stream, so that another task can end its reading.

How it works: the reading task enters a `Reader` before its stream begins and leaves it at the end. `leave()` cancels
that task once, even if several tasks call it. `__exit__` takes this cancellation back (`_cancellation`, case 1), so the
task itself continues. If the task was also cancelled from elsewhere since the stream began, the `CancelledError` is
raised. If another task has taken over the reading, only cancellations since `leave()` count, because counting them at
each chunk would make each chunk slower. All of this happens on the loop of the reading task. `over` is set when the
reading has ended, with or without an error.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from .._cancellation import cancellations, forgiven


class Reader:
    """Holds the reading task while the reading lasts."""

    __slots__ = ("_began_in", "_cancelling", "_leaving", "over", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[object] | None = None
        self._began_in: asyncio.Task[object] | None = None
        self.over = asyncio.Event()
        self._leaving = False
        self._cancelling = 0

    def __enter__(self) -> None:
        self.task = self._began_in = asyncio.current_task()
        self._cancelling = cancellations()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.over.set()
        if not self._leaving or not isinstance(error, asyncio.CancelledError):
            return False
        return forgiven(self._cancelling)

    def leave(self) -> None:
        """End the reading. The reading task may call this itself: a callback may close the stream that called it."""
        if self.task is not None and not self._leaving:
            self._leaving = True
            if self.task is not self._began_in:
                self._cancelling = self.task.cancelling()
            self.task.cancel()
