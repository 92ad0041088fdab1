"""`Latch`: something that happens once, which threads and event loops can wait for.

The state is guarded by a lock, because waiters in other threads add and remove themselves. A waiter in a loop removes
itself before its loop can be closed, so that `open` never calls a closed loop.
"""

from __future__ import annotations

import asyncio
import threading


class Latch:
    """`open` in one thread ends every `wait` in other threads and every `wait_async` in other loops."""

    __slots__ = ("_is_open", "_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[threading.Event | tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """End all waits, also later ones."""
        with self._lock:
            self._is_open = True
            for waiting in self._waiting:
                if isinstance(waiting, threading.Event):
                    waiting.set()
                else:
                    loop, event = waiting
                    loop.call_soon_threadsafe(event.set)

    def wait(self, timeout: float) -> None:
        """Block the calling thread until the latch is open, or until the timeout."""
        event = threading.Event()
        if self._add(event):
            event.wait(timeout)
            self._remove(event)

    async def wait_async(self, timeout: float) -> None:
        """`wait` for a coroutine."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        if not self._add(entry):
            return
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._remove(entry)

    def _add(self, entry: threading.Event | tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> bool:
        with self._lock:
            if not self._is_open:
                self._waiting.append(entry)
            return not self._is_open

    def _remove(self, entry: threading.Event | tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting.remove(entry)
