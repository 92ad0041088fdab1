"""The tasks and futures of a simulated loop. Their number is their hash, so that sets of them have one order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

from .real_world import is_of_a_library, line_of


class SimulatedTask(asyncio.Task[Any]):
    """A task with a number."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], *, name: str | None, **more: Any) -> None:
        self.number: Final = number
        self.on_name: Callable[[str, str], object] | None = None
        """Called with the old and the new name when the task gets another one."""
        super().__init__(coro, name=name or f"{getattr(coro, '__qualname__', 'task')} {number}", **more)

    def __hash__(self) -> int:
        return self.number

    def set_name(self, value: object, /) -> None:
        before = self.get_name()
        super().set_name(value)
        if self.on_name is not None:
            self.on_name(before, self.get_name())


class SimulatedFuture(asyncio.Future[Any]):
    """A future with a number."""

    def __init__(self, number: int, *, loop: asyncio.AbstractEventLoop) -> None:
        self.number: Final = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


def forget_when_dropped(task: Any) -> None:
    """Do not report a task that is dropped before it is done."""
    task._log_destroy_pending = False  # noqa: SLF001 - as asyncio's own loop does


def place_of(task: asyncio.Task[Any]) -> str:
    """Where a task waits: its innermost line outside libraries."""
    frames: list[FrameType] = []
    coroutine: Any = task.get_coro()
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append(frame)
        coroutine = coroutine.cr_await
    if not frames:
        return "its beginning"
    return line_of(next((frame for frame in reversed(frames) if not is_of_a_library(frame)), frames[-1]))
