"""Threads in a simulation: the work of an executor runs in the simulated loop, at a drawn moment.

How it works. While a simulation runs, `ThreadPoolExecutor.submit` puts the work in a queue and sets a timer of the
loop. When the timer fires, the loop runs a piece of work of the queue: a pool with one worker keeps the order of its
work, a larger one does not. A caller that blocks for a result (`future.result()`) makes the queue run at once, because
the real thread would run while the caller waits.

During the work no event loop is running, and the context is empty, as in a thread. Only the thread of the simulation
is affected.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, TimerHandle, events
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Final
from weakref import WeakKeyDictionary

from msgspec import Struct

from .choices import Choices

DELAYS: Final = (0.0, 0.0, 0.0005, 0.02, 0.6)
"""Seconds until a thread gets to its work."""


class Work(Struct, eq=False):
    """A piece of work, and the future for its result."""

    future: Future[Any]
    function: Callable[[], Any]


class ThreadFuture(Future[Any]):
    """The result of a piece of work. Waiting for it runs the work."""

    def __init__(self, run_now: Callable[[Future[Any]], None]) -> None:
        super().__init__()
        self._run_now = run_now

    def result(self, timeout: float | None = None) -> Any:
        self._run_now(self)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._run_now(self)
        return super().exception(timeout)


class Threads:
    """The threads of one simulated process."""

    def __init__(self, loop: AbstractEventLoop, choices: Choices) -> None:
        self._loop = loop
        self._choices = choices
        self._queues: WeakKeyDictionary[ThreadPoolExecutor, deque[Work]] = WeakKeyDictionary()
        self._timers: WeakKeyDictionary[ThreadPoolExecutor, list[TimerHandle]] = WeakKeyDictionary()
        self._are_dead = False

    def kill(self) -> None:
        """The process is dead: work that has not begun never does."""
        self._are_dead = True
        self._queues.clear()

    @contextmanager
    def in_force(self) -> Generator[None, None, None]:
        """Take over the work that this thread gives to executors, until the block ends."""
        owner, submit, shutdown = threading.get_ident(), ThreadPoolExecutor.submit, ThreadPoolExecutor.shutdown

        def simulated_submit(executor: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if threading.get_ident() != owner:
                return submit(executor, fn, *args, **kwargs)
            return self.submit(executor, lambda: fn(*args, **kwargs))

        def simulated_shutdown(
            executor: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False
        ) -> None:
            if threading.get_ident() == owner:
                self._shut_down(executor, wait=wait, cancel_futures=cancel_futures)
            else:
                shutdown(executor, wait, cancel_futures=cancel_futures)

        pool: Any = ThreadPoolExecutor
        pool.submit, pool.shutdown = simulated_submit, simulated_shutdown
        try:
            yield
        finally:
            pool.submit, pool.shutdown = submit, shutdown

    def submit(self, executor: ThreadPoolExecutor, function: Callable[[], Any]) -> Future[Any]:
        """Have an executor do something, soon."""
        if executor._shutdown:  # noqa: SLF001 - an executor has no public attribute that says it
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = ThreadFuture(lambda future: self._drain(executor, until=future))
        if not self._are_dead:
            self._queues.setdefault(executor, deque()).append(Work(future, function))
            self._timers.setdefault(executor, []).append(self._loop.call_later(self.delay(), self._work, executor))
        return future

    @staticmethod
    def future() -> Future[Any]:
        """The future of work that belongs to no pool."""
        return Future()

    def delay(self) -> float:
        """Seconds until a thread gets to its work."""
        return self._choices.pick(DELAYS, "threads")

    def run(self, work: Work) -> None:
        """Do a piece of work, as a thread does: without a running loop, and without context."""
        if not work.future.set_running_or_notify_cancel():
            return
        running = events._get_running_loop()  # noqa: SLF001 - unlike its public twin it does not raise
        events._set_running_loop(None)  # noqa: SLF001 - a thread has none
        try:
            result = Context().run(work.function)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the work raises it
            work.future.set_exception(error)
        else:
            work.future.set_result(result)
        finally:
            events._set_running_loop(running)  # noqa: SLF001

    def _work(self, executor: ThreadPoolExecutor) -> None:
        queue = self._queues.get(executor)
        if not queue:
            return  # somebody who waited for it has made it run already
        place = self._choices.below(min(len(queue), executor._max_workers), "threads")  # noqa: SLF001
        work = queue[place]
        del queue[place]
        self._cancel_timers(executor)
        self.run(work)

    def _drain(self, executor: ThreadPoolExecutor, until: Future[Any] | None = None) -> None:
        queue = self._queues.get(executor, deque())
        while queue and not (until is not None and until.done()):
            self.run(queue.popleft())
        self._cancel_timers(executor)

    def _cancel_timers(self, executor: ThreadPoolExecutor) -> None:
        """If an executor has no work left, cancel its timers: they would count as left over."""
        if not self._queues.get(executor):
            for timer in self._timers.pop(executor, ()):
                timer.cancel()

    def _shut_down(self, executor: ThreadPoolExecutor, *, wait: bool, cancel_futures: bool) -> None:
        executor._shutdown = True  # noqa: SLF001 - as its own method does
        if cancel_futures:
            for work in self._queues.get(executor, ()):
                work.future.cancel()
        if wait:
            self._drain(executor)
