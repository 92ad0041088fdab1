"""Running the calls of a turn side by side.

How it works. Each call runs in a task of its own, so that one that is slow holds up no other. A coroutine function is
awaited in that task. Any other function runs in a thread, with the context variables of the task. A run that takes
longer than its time limit is cancelled.

- **What a run ends in.** A `ToolResult`: the text of the value, or an error for the model. The error has the type and
  the message of an exception; its traceback goes to the log only, by a notice. A tool that calls `sys.exit` has failed
  too: no tool ends the process. A `KeyboardInterrupt` ends the stream.
- **Threads cannot be killed.** If a function in a thread is too slow, or its stream ends, the thread goes on alone.
  Its result is dropped, and a notice says that it still runs.
- **Cancellation.** `SideBySide.aclose` cancels the tasks that are not done, and waits until they have ended, also if
  it is cancelled meanwhile. A thread is not waited for.

Only the task that reads the stream uses a `SideBySide`; the tasks of the calls write nothing but their own results.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any, Final

from msgspec import Struct

from .._cancellation import cancellations, was_cancelled
from .._durations import in_seconds
from ..events import ToolCall, ToolResult
from ..notices import Notify, ToolRunFailed, ToolRunStopped
from ._checking import CheckedCall
from ._context import RunContext
from ._results import sendable, text_of


class Running(Struct, frozen=True):
    """What every run of a stream needs: the executor of plain functions, the default time limit, and the notices."""

    executor: Executor | None
    seconds: float
    notify: Notify


class SideBySide:
    """The runs of one turn's calls. They begin at once."""

    def __init__(self, calls: Sequence[tuple[CheckedCall, RunContext]], running: Running) -> None:
        self._tasks: Final = {
            asyncio.create_task(_run(each, context, running), name=f"tool {each.call.name}"): (each.call, context)
            for each, context in calls
        }
        self._notify: Final = running.notify
        self._waiting: set[asyncio.Task[ToolResult]] = set(self._tasks)

    @property
    def is_over(self) -> bool:
        """Whether `next_results` has returned all results."""
        return not self._waiting

    async def next_results(self) -> list[ToolResult]:
        """Wait until one more run has ended. The results that are there, in the order of their calls."""
        done, self._waiting = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
        return [self._result(task, *told) for task, told in self._tasks.items() if task in done]

    def _result(self, task: asyncio.Task[ToolResult], call: ToolCall, context: RunContext) -> ToolResult:
        """The result of a run that has ended. A tool that raises a `GeneratorExit` or the like has failed, too."""
        if task.cancelled():
            return ToolResult(call.id, call.name, error="it was cancelled")
        error = task.exception()
        if error is None or isinstance(error, KeyboardInterrupt):
            return task.result()
        self._notify(ToolRunFailed(call.name, call.id, context.run_id, error))
        return ToolResult(call.id, call.name, error=_in_words(error))

    async def aclose(self) -> None:
        """Cancel the runs that are under way, and wait until they have ended."""
        for task in self._waiting:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while left := [task for task in self._waiting if not task.done()]:
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError as error:
                cancelled = error
        for task in self._waiting:
            if not task.cancelled():
                task.exception()  # it is seen, so asyncio does not report it
        self._waiting.clear()
        if cancelled is not None:
            raise cancelled


async def _run(checked: CheckedCall, context: RunContext, running: Running) -> ToolResult:
    """Run one call, and make its result."""
    call, tool = checked.call, checked.tool
    assert tool is not None and tool.function is not None
    seconds = running.seconds if tool.timeout is None else tool.timeout
    arguments = dict(checked.arguments)
    if tool.takes_context is not None:
        arguments[tool.takes_context] = context
    in_thread = not is_async(tool.function)
    before = cancellations()

    def failed(error: BaseException) -> ToolResult:
        error = error.__cause__ or error if isinstance(error, _ThreadEndedError) else error
        running.notify(ToolRunFailed(call.name, call.id, context.run_id, error))
        return ToolResult(call.id, call.name, error=_in_words(error))

    clock = asyncio.timeout(seconds)
    try:
        async with clock:
            if in_thread:
                value = await _in_thread(tool.function, arguments, running.executor)
                in_thread = False
            else:
                value = await tool.function(**arguments)
            if inspect.isawaitable(value):
                value = await value
    except asyncio.CancelledError as error:
        if was_cancelled(before):
            running.notify(ToolRunStopped(call.name, call.id, context.run_id, "its stream ended", in_thread))
            raise
        return failed(error)  # the tool awaited something that was cancelled
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool is the application's code; the model is told
        if not clock.expired():
            return failed(error)
        reason = f"it took longer than {in_seconds(seconds)}"
        running.notify(ToolRunStopped(call.name, call.id, context.run_id, reason, in_thread))
        outcome = "it may still be at work, and its result is not known" if in_thread else "it was stopped"
        return ToolResult(call.id, call.name, error=f"{reason}: {outcome}")
    try:
        return ToolResult(call.id, call.name, result=text_of(value))
    except ValueError as error:
        running.notify(ToolRunFailed(call.name, call.id, context.run_id, error))
        return ToolResult(call.id, call.name, error=f"it has run, but its result is lost: {error}")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling a function only makes a coroutine, so that it may be called in the event loop."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - its own method is looked at


async def _in_thread(function: Callable[..., Any], arguments: dict[str, Any], executor: Executor | None) -> Any:
    """Call a function in a thread, with the context variables of this task."""
    context = copy_context()

    def call() -> tuple[Any, BaseException | None]:
        try:
            return context.run(function, **arguments), None
        except BaseException as error:  # noqa: BLE001 - a future refuses a StopIteration
            return None, error

    value, error = await asyncio.get_running_loop().run_in_executor(executor, call)
    if error is None:
        return value
    if isinstance(error, (Exception, SystemExit)):
        raise error
    raise _ThreadEndedError from error  # asyncio would end its loop for a KeyboardInterrupt of the tool's own


class _ThreadEndedError(Exception):
    """A plain function raised what would have ended its thread. The cause is what it raised."""


def _in_words(error: BaseException) -> str:
    """The type and the message of an exception."""
    message = str(error).strip()
    return sendable(f"{type(error).__name__}: {message}") if message else type(error).__name__
