"""Telling one cancellation of a task from another, by counting.

How asyncio counts: `Task.cancel()` adds one to `Task.cancelling()` and has a `CancelledError` raised where the task
waits. `Task.uncancel()` takes one away and returns the rest. The error itself does not say who caused it, so the
code that catches one compares the count with a count that it noted before it began to wait. Two cases occur here.

1. *We cancel a task ourselves*, to end its wait: a clock ran out, the switch is being closed, the reader left, or the
   reader of the pipe did. The code that catches the error calls `forgiven(before)`. It takes our one cancellation back,
   so that the task can continue and outer scopes (`asyncio.timeout`, `TaskGroup`) count correctly. If more than
   `before` are left, other code has cancelled the task, too. That cancellation wins, and the error must be raised.

2. *We wait for something that may itself be cancelled*: a callback of the application, a future that a timer cancels.
   `was_cancelled(before)` says whether the task was cancelled. If not, only the thing it waited for was, the error ends
   here, and there is nothing to take back.

The rules that make the counting right:

- `before` is noted by the task itself, right before it waits. A cancellation that was requested but not yet delivered,
  because the task has cancelled itself since its last wait, does not count: it is raised in the wait that follows.
- We issue our own cancellation once, even if there are several reasons for it, because it is taken back once. Each
  place therefore has a flag that is set before `cancel()` is called.
- Each issued cancellation is taken back exactly once, also if code in between swallowed the error, such as a body or
  an iterator that ends when it is cancelled. Otherwise the next scope counts it as a cancellation from elsewhere.
- `Task.cancel()` may be called only on the task's own loop and thread.

The functions here look up the running task first. Code that runs for each chunk and has the task at hand calls
`task.cancelling()` itself (`_dispatch/watchdog.py`). This module holds no state.
"""

from __future__ import annotations

import asyncio


def cancellations() -> int:
    """How many delivered cancellations of the running task have not been taken back. Note this before a wait."""
    task = asyncio.current_task()
    if task is None:
        return 0
    is_one_due: bool = getattr(task, "_must_cancel", False)
    return task.cancelling() - is_one_due


def forgiven(before: int) -> bool:
    """Take back our own cancellation of the running task: case 1. False if other code has cancelled it, too."""
    task = asyncio.current_task()
    return task is None or task.uncancel() <= before


def was_cancelled(before: int) -> bool:
    """Whether a `CancelledError` just caught was for the running task: case 2. Without a task, it counts as being."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > before
