"""The tasks and futures of a simulated loop. Their number is their hash, so that sets of them have one order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final


class SimulatedTask(asyncio.Task[Any]):
    """A task with a number."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], *, name: str | None, **more: Any) -> None:
        self.number: Final = number
        super().__init__(coro, name=name or f"{getattr(coro, '__qualname__', 'task')} {number}", **more)

    def __hash__(self) -> int:
        return self.number


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
    """Where a task waits: the innermost line of its own code."""
    frames = task.get_stack()
    if not frames:
        return "its beginning"
    frame = frames[-1]
    coroutine: Any = task.get_coro()
    while (inner := getattr(coroutine, "cr_await", None)) is not None and getattr(inner, "cr_frame", None) is not None:
        coroutine, frame = inner, inner.cr_frame
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"
