"""`SimulatedLoop`: an asyncio event loop in virtual time, which draws the order of everything from a seed.

Theory of operation
-------------------
- **Order.** Callbacks wait in lanes. A task has a lane of its own, which holds its steps and the callbacks that it has
  scheduled, so these run in the order in which they were scheduled (asyncio keeps this order for all callbacks). Each
  timer and each call from a thread has a lane of its own too. The loop draws a lane and runs its first callback. Lanes
  are numbered as they are made, and the loop draws among the sorted numbers. So it does not matter in which order a set
  was iterated.
- **Time.** Running a callback takes no time. If no callback is ready, the time becomes that of the next timer. Now and
  then the loop is busy for a drawn time, so that timers and callbacks become ready together.
- **Sets.** Tasks and futures of this loop have their number as hash, so that a set of them has one order.
- **The end.** If no callback and no timer is left, nothing will ever happen: `SimulationStuckError`. A process
  that has run too many callbacks gets the same error (`Steps`). A process that is killed (`kill`) accepts calls and
  runs nothing.

Only the thread that runs the loop may use it.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextvars import Context
from math import inf
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from .choices import Choices
from .lanes import Lanes
from .real_world import REAL_METHODS, refused
from .stalls import Stalls
from .steps import SimulationStuckError as SimulationStuckError
from .steps import Steps
from .tasks import EAGER, SimulatedFuture, SimulatedTask, forget_when_dropped, place_of
from .threads import Threads, Work
from .timers import Timers
from .trace import Trace

T = TypeVar("T")
Args = TypeVarTuple("Args")


class SimulatedLoop(asyncio.AbstractEventLoop):
    """A simulated event loop, which is one simulated process.

    Args:
        choices: The choices of the run.
        start: The virtual second at which the process starts.
        report: Called with each problem that nobody handled, such as an exception in a callback.
        trace: Where the beginning and the end of each task are noted.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        start: float = 0.0,
        report: Callable[[str], object],
        trace: Trace | None = None,
    ) -> None:
        self.steps: Final = Steps()
        self.threads: Final = Threads(self, choices)
        self._report = report
        self._trace = Trace(self.time) if trace is None else trace
        self._time = start
        self._lanes: Final = Lanes(choices)
        self._numbers = 0
        self._timers: Final = Timers()
        self._foreign_lanes: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._generators: WeakValueDictionary[int, AsyncGenerator[Any, Any]] = WeakValueDictionary()
        self.is_killed: bool = False
        self._is_running = self._is_closed = self._is_stopping = False
        self._exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._task_factory: Any = None
        self._stalls: Final = Stalls(choices)

    # ── scheduling ─────────────────────────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        """The virtual second."""
        return self._time

    def call_soon(
        self, callback: Callable[[Unpack[Args]], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        owner = getattr(callback, "__self__", None)
        if owner is self and callback == self._note_end:
            self._note_end(*cast(Any, args))  # at once, so that taking notes schedules nothing
        else:
            self._put(self._lane_of(owner) if isinstance(owner, asyncio.Task) else self._lanes.current, handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Args]], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._check_open()
        self._put(self._next_number(), handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._check_open()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if when < inf and not self.is_killed:
            self._timers.add(max(when, self._time), self._next_number(), timer)
        return timer

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """Called by `TimerHandle.cancel`. The timer is dropped when it is due."""

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _lane_of(self, task: asyncio.Task[Any]) -> int:
        if isinstance(task, SimulatedTask):
            return task.number
        if task not in self._foreign_lanes:
            self._foreign_lanes[task] = self._next_number()
        return self._foreign_lanes[task]

    def _put(self, lane: int, handle: asyncio.Handle) -> None:
        self._check_open()
        if not self.is_killed:
            self._lanes.put(lane, handle)

    # ── running ────────────────────────────────────────────────────────────────────────────────────────────────────

    def run_until_complete(self, future: Any) -> Any:
        is_new = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)
        if is_new:
            forget_when_dropped(future)
        future.add_done_callback(self._stop_at)
        try:
            self.run_forever()
        finally:
            future.remove_done_callback(self._stop_at)
        if not future.done():
            raise RuntimeError("the loop was stopped before the future was done")
        return future.result()

    def run_forever(self) -> None:
        self._run(inf)

    def run_until(self, task: asyncio.Future[T], end: float) -> bool:
        """Run until a task is done, or until a virtual second. Returns whether the task is done."""
        task.add_done_callback(self._stop_at)
        self._run(end)
        return task.done()

    def _stop_at(self, future: asyncio.Future[Any]) -> None:
        self.stop()

    def stop(self) -> None:
        self._is_stopping = True

    def _run(self, end: float) -> None:
        self._check_open()
        if self._is_running:
            raise RuntimeError("this simulated loop is running already")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._begin_generator, finalizer=self._close_generator)
        self._is_running = True
        events._set_running_loop(self)  # noqa: SLF001 - what an event loop does
        try:
            while not self._is_stopping and self._is_something_ready(end):
                self._step()
        finally:
            self._is_stopping = self._is_running = False
            self._lanes.current = 0
            events._set_running_loop(None)  # noqa: SLF001 - what an event loop does
            sys.set_asyncgen_hooks(*hooks)

    def _is_something_ready(self, end: float) -> bool:
        """Wait until a callback is ready. False if that is after `end`."""
        if self._lanes:
            if seconds := self._stalls.before_a_callback():
                self._advance(self._time + seconds)
            return self._time <= end
        while not self._lanes:
            due = self._timers.next_time()
            if due is None and end == inf:
                raise SimulationStuckError("nothing will ever happen again", self._waiting())
            if due is None or due > end:
                self._time = max(self._time, end)
                return False
            self._advance(due)
        return True

    def _advance(self, time: float) -> None:
        """Move the time on, and make the timers ready that are due."""
        self._time = time
        self.steps.time_passes()
        for number, timer in self._timers.take_due(time):
            self._put(number, timer)

    def _step(self) -> None:
        problem = self.steps.problem()
        if problem is not None:
            raise SimulationStuckError(problem, self._waiting())
        handle = self._lanes.take()
        if not handle.cancelled():
            handle._run()  # noqa: SLF001 - what an event loop does

    # ── the end of a process ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def stalled(self) -> float:
        """Seconds for which the loop was busy."""
        return self._stalls.seconds

    @property
    def order(self) -> bytes:
        """The lane of each callback that has run."""
        return self._lanes.order.tobytes()

    def take_no_more_notes(self) -> None:
        """What follows is not the program's doing."""
        self._trace = Trace(self.time)

    def left_over(self) -> list[str]:
        """The tasks that are not done and the timers that are set."""
        tasks = [f"{task.get_name()}: {place_of(task)}" for task in self.unfinished_tasks()]
        return [*tasks, *(f"a timer: {timer!r}" for timer in self._timers.all())]

    def unfinished_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done, in the order in which they were made."""
        return sorted(asyncio.all_tasks(self), key=self._lane_of)

    def kill(self) -> object:
        """End the process at once: nothing of it runs any more, not even a `finally`.

        Returns the coroutines and callbacks of the process. Keep them for as long as no `finally` of them may run:
        Python runs it when a coroutine is dropped.
        """
        remains = (self._lanes.clear(), self._timers.clear(), self.unfinished_tasks(), dict(self._generators))
        self.is_killed = True
        self.threads.kill()
        for task in self.unfinished_tasks():
            forget_when_dropped(task)
        return remains

    def close(self) -> None:
        if self._is_running:
            raise RuntimeError("a running loop cannot be closed")
        self._is_closed = True
        self._lanes.clear()
        self._timers.clear()

    def _waiting(self) -> list[tuple[str, str]]:
        return [(task.get_name(), place_of(task)) for task in self.unfinished_tasks()]

    async def shutdown_asyncgens(self) -> None:
        generators = [generator for _, generator in sorted(self._generators.items())]
        self._generators.clear()
        for generator in generators:
            await generator.aclose()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        return None

    def _begin_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[self._next_number()] = generator

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._is_closed and not self.is_killed:
            self.create_task(generator.aclose())

    # ── tasks, futures and threads ─────────────────────────────────────────────────────────────────────────────────

    def create_future(self) -> asyncio.Future[Any]:
        return SimulatedFuture(self._next_number(), loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, **more: Any) -> Any:
        self._check_open()
        task = self._new_task(coro, name, more)
        self._trace.add(task.get_name(), "begins")
        task.add_done_callback(self._note_end)
        return task

    def _new_task(self, coro: Any, name: str | None, more: dict[str, Any]) -> asyncio.Task[Any]:
        factory = self._task_factory
        if factory is None or factory is EAGER:
            eager = {} if factory is None else {"eager_start": True}
            task = SimulatedTask(self._next_number(), coro, name=name, loop=self, **more, **eager)
            task.on_name = self._trace.rename
            return task
        other: asyncio.Task[Any] = factory(self, coro, **more)
        if name is not None:
            other.set_name(name)
        return other

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._trace.add(task.get_name(), "ends: cancelled")
        elif (error := task._exception) is None:  # noqa: SLF001 - `exception()` would count as retrieved
            self._trace.add(task.get_name(), "ends")
        else:
            self._trace.add(task.get_name(), f"ends with {type(error).__name__}: {error}")

    def set_task_factory(self, factory: Any) -> None:
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        return self._task_factory

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> asyncio.Future[T]:
        if hasattr(executor, "_max_workers"):  # a pool; any other executor starts threads like the default one
            return asyncio.wrap_future(cast(Executor, executor).submit(func, *args), loop=self)
        future = self.threads.future()
        self.call_later(self.threads.delay(), self.threads.run, Work(future, lambda: func(*args)))
        return asyncio.wrap_future(future, loop=self)

    def set_default_executor(self, executor: Any) -> None:
        return None

    # ── state and errors ───────────────────────────────────────────────────────────────────────────────────────────

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        return None

    def get_exception_handler(self) -> Any:
        return self._exception_handler

    def set_exception_handler(self, handler: Any) -> None:
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._report(f"{context.get('message')}" + ("" if error is None else f": {type(error).__name__}: {error}"))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.is_killed:
            return
        if self._exception_handler is None:
            self.default_exception_handler(context)
        else:
            self._exception_handler(self, context)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("Event loop is closed")


for _name in REAL_METHODS:
    setattr(SimulatedLoop, _name, refused(f"a simulated program may not use the event loop's {_name}()"))
