"""The background event loop: a loop in its own thread, for synchronous callers.

Invariant: at most one background loop runs in a process. `background_loop` makes it under `_lock`, in a real thread of
the operating system; it ends with the process, and a forked process makes its own. A caller hands a coroutine over and
waits for it. If an exception such as a `KeyboardInterrupt` reaches the waiting caller, the caller cancels the
coroutine, waits until it has ended, and raises the exception.

If gevent has patched `threading`, a `threading.Thread` is a greenlet in the thread that started it. A loop that ran
there would be the running loop of all other greenlets. So the background thread is then started without gevent's
patches, and a waiting caller lets the other greenlets of its thread run.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import os
import socket
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_background: _Background | None = None
_readings: weakref.WeakKeyDictionary[AsyncGenerator[Any, None], None] = weakref.WeakKeyDictionary()


class _Background:
    """A loop that runs in its own thread."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._process = os.getpid()
        self._ended = False
        self._waited_for: _Signal | None = None
        # A lock past gevent's patches: while `_lock` is held, no other greenlet of this thread may run.
        started = _past_gevent("allocate_lock")()
        started.acquire()

        def run() -> None:
            # The loop is made in its own thread, because gevent's selector works only in the thread that made it.
            self.loop = asyncio.new_event_loop()
            if gevent_is_in_force():
                self.loop.set_default_executor(_GeventExecutor())
            self.loop.call_soon(started.release)
            try:
                self.loop.run_forever()
            finally:
                self._ended = True
                self.loop.close()
                if self._waited_for is not None:
                    self._waited_for.set()

        start_thread(run, "llm_dispatcher")
        started.acquire()

    @property
    def is_running(self) -> bool:
        return not self._ended and self._process == os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the caller is in this loop's own thread."""
        return asyncio._get_running_loop() is self.loop  # noqa: SLF001 - unlike its public twin it does not raise

    def stop(self) -> None:
        """End the loop as `asyncio.run` does, so that its connections are closed."""
        if not self.is_running:
            return
        self._waited_for = _signal()

        async def wind_up() -> None:
            try:
                await _wind_up()
            finally:
                self.loop.stop()

        asyncio.run_coroutine_threadsafe(wind_up(), self.loop)
        self._waited_for.wait(2)


def background_loop() -> asyncio.AbstractEventLoop:
    """The background loop of this process. The first call starts it. A forked process gets its own."""
    global _background
    with _lock:
        if _background is None or not _background.is_running:
            _background = _Background()
            atexit.register(_background.stop)
        return _background.loop


def closed_at_the_end(reading: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Have a generator closed first if it is still open when the process ends."""
    with _lock:
        _readings[reading] = None
    return reading


async def _wind_up() -> None:
    # The readers' own generators are closed first, and they close those inside. A loop would close all at once.
    for reading in list(_readings):
        with suppress(RuntimeError):  # it is running
            await reading.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, unfinished = await asyncio.wait(others, timeout=0.5)  # let tasks that are closing finish
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def run_in_background(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop while this thread waits.

    A `KeyboardInterrupt` in this thread cancels the coroutine. It is raised when the coroutine has ended and has closed
    its connections.
    """
    loop = background_loop()
    over = _signal()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = loop.create_task(coroutine)
        task.add_done_callback(lambda _: over.set())
        tasks.append(task)

    def stop() -> None:
        tasks[0].cancel()

    loop.call_soon_threadsafe(start)
    try:
        over.wait()
    except BaseException:
        loop.call_soon_threadsafe(stop)
        over.wait()
        raise
    return tasks[0].result()


def finish_in_background(coroutine: Coroutine[Any, Any, None], *, may_block: bool = True) -> None:
    """Run a coroutine that closes something on the background loop.

    Wait for it, unless this thread may not block, or is the loop's own thread. The garbage collector closes objects in
    whichever thread it runs.
    """
    if _background is None or not _background.is_running:
        coroutine.close()  # the process is ending, and the loop has closed everything already
    elif may_block and not _background.is_here:
        run_in_background(coroutine)
    else:
        asyncio.run_coroutine_threadsafe(coroutine, _background.loop)


# ── waiting for another thread, with gevent and without ──────────────────────────────────────────────────────────────


class _Signal(Protocol):
    """One thread waits for it, and another sets it once."""

    def set(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class _GeventExecutor(ThreadPoolExecutor):
    """Runs the loop's blocking calls in the background thread itself, and only looks up addresses in another thread.

    The workers of an ordinary pool would be greenlets of the background thread. The workers of gevent's own pool are
    real threads, but their hubs do not run. If such a worker and the background thread wait for the same patched lock
    (every import takes one of `logging`), the hub that should wake the waiter does not run, and the loop waits for
    ever. So an import blocks the loop, once for each SDK. Looking up an address takes no such lock. `submit` is called,
    and the future resolved, in the background thread only.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled any more

        def done(result: Any) -> None:
            if result.successful():
                future.set_result(result.value)
            else:
                future.set_exception(result.exception)

        if function is socket.getaddrinfo:
            import_module("gevent").get_hub().threadpool.spawn(function, *args, **kwargs).rawlink(done)
            return future
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - the code that waits for the future gets it
            future.set_exception(error)
        return future


class OwnThreads(Executor):
    """Runs each call in a daemon thread of its own. A call that never returns takes no worker from others, and does not
    keep the process from ending. A call that is cancelled before its thread begins is not made.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the code that waits for the future gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        start_thread(run, "llm_dispatcher tool")
        return future


def for_tools() -> Executor | None:
    """The executor for functions of the application. Under gevent, it is the default one of the loop."""
    return None if gevent_is_in_force() else OwnThreads()


class _GeventSignal:
    """A signal for a greenlet: while it waits, the other greenlets of its thread run.

    gevent's own `Event` must be set in the thread that waits for it. Other threads may call only one function
    of a hub's loop, `send` of an `async_` watcher: it runs the watcher's callback in the hub.
    """

    def __init__(self) -> None:
        self._event = import_module("gevent.event").Event()
        self._watcher = import_module("gevent").get_hub().loop.async_()
        self._watcher.start(self._event.set)

    def set(self) -> None:
        self._watcher.send()

    def wait(self, timeout: float | None = None) -> bool:
        is_set: bool = self._event.wait(timeout)
        if is_set:
            self._watcher.close()
        return is_set


def _signal() -> _Signal:
    return _GeventSignal() if gevent_is_in_force() else threading.Event()


def start_thread(run: Callable[[], None], name: str) -> None:
    """Run a function in a daemon thread of the operating system. Under gevent, a `threading.Thread` is not one."""
    if gevent_is_in_force():
        _past_gevent("start_new_thread")(run, ())
    else:
        threading.Thread(target=run, name=name, daemon=True).start()


def gevent_is_in_force() -> bool:
    """Whether gevent has patched `threading`."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def _past_gevent(name: str) -> Callable[..., Any]:
    """The original function of `_thread`, without gevent's patches."""
    monkey = sys.modules.get("gevent.monkey")
    function: Callable[..., Any] = getattr(_thread, name) if monkey is None else monkey.get_original("_thread", name)
    return function
