"""One event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_readings: weakref.WeakSet[AsyncGenerator[Any, None]] = weakref.WeakSet()


def background_loop() -> asyncio.AbstractEventLoop:
    """The process's background loop, started when it is first asked for. A forked process gets its own."""
    global _loop, _thread
    with _lock:
        if _loop is None or _thread is None or not _thread.is_alive():
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="llm_dispatcher", daemon=True)
            _thread.start()
            atexit.register(_stop, _loop, _thread)
        return _loop


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """End the loop as `asyncio.run` would: what is held open by it, connections above all, is closed."""
    if not thread.is_alive():
        return
    asyncio.run_coroutine_threadsafe(_wind_up(loop), loop).result(timeout=2)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=2)
    if not thread.is_alive():
        loop.close()


def closed_at_the_end(reading: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Have this closed before all else if it is still open when the process ends."""
    with _lock:
        _readings.add(reading)
    return reading


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    # What is read from outside is closed first, and closes what is inside of it: a loop would close all at once.
    for reading in list(_readings):
        with suppress(RuntimeError):  # it is running
            await reading.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, unfinished = await asyncio.wait(others, timeout=0.5)  # what is being closed may be closed
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
    await loop.shutdown_asyncgens()


def run_in_background(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop while this thread waits. A `KeyboardInterrupt` here cancels it there, and
    goes on when it has ended, so that what it held open is closed by then.
    """
    loop = background_loop()
    over = threading.Event()
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


def finish_in_background(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what closes something on the background loop, and wait for it where that can be waited for."""
    if _loop is None or _thread is None or not _thread.is_alive():
        coroutine.close()  # the process ends, and its loop has closed everything already
    elif threading.current_thread() is _thread:
        asyncio.run_coroutine_threadsafe(coroutine, _loop)  # the collector found it in the loop's own thread
    else:
        run_in_background(coroutine)
