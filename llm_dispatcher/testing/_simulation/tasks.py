"""The tasks and futures of a simulated loop. Their number is their hash, so that sets of them have one order.

asyncio itself also makes sets of coroutines, whose hashes are addresses. `in_their_order` replaces these sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from .real_world import is_of_a_library, line_of

EAGER: Final[Any] = getattr(asyncio, "eager_task_factory", None)
"""The task factory of Python 3.12 and newer that begins tasks at once. In a simulation it makes simulated tasks."""


class SimulatedTask(asyncio.Task[Any]):
    """A task with a number."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], *, name: str | None, **more: Any) -> None:
        self.number: Final = number
        self.on_name: Callable[[str, str], object] | None = None
        """Called with the old and the new name when the task gets another one."""
        function = getattr(coro, "__qualname__", "task").rpartition("<locals>.")[2]
        super().__init__(coro, name=name or f"{function} {number}", **more)

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


@contextmanager
def in_their_order() -> Generator[None, None, None]:
    """Have `asyncio.as_completed` start coroutines in the order in which it gets them, until the block ends.

    Without this it starts them in the order of a set of addresses.
    """
    module: Any = asyncio.tasks
    module.set = _list_without_repetitions
    try:
        yield
    finally:
        del module.set


def _list_without_repetitions(values: Iterable[Any] = ()) -> Any:
    """Stands for `set`: an empty set may be filled later, so it is a real one."""
    return list(dict.fromkeys(values)) if values else set()
