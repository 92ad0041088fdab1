"""Who reads a stream."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Reader:
    """Knows which task is reading, so that another one can end its reading: the task itself goes on."""

    __slots__ = ("_cancelling", "_leaving", "over", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[object] | None = None
        self.over = asyncio.Event()
        self._leaving = False
        self._cancelling = 0

    def __enter__(self) -> None:
        self.task = asyncio.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.over.set()
        if not self._leaving or not isinstance(error, asyncio.CancelledError):
            return False
        task = asyncio.current_task()
        return task is not None and task.uncancel() <= self._cancelling

    def leave(self) -> None:
        """End the reading. The task may be the running one, if a callback closes the stream that it is told of."""
        if self.task is not None and not self._leaving:  # (of several who close it, one cancels: one is forgiven)
            self._leaving, self._cancelling = True, self.task.cancelling()
            self.task.cancel()
