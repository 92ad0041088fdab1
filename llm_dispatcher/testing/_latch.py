"""Something that happens once, and that any thread and any loop may wait for."""

from __future__ import annotations

import asyncio
import threading


class Moment:
    """`pass_by` in one thread ends every `wait` in others and every `reached` in other loops."""

    __slots__ = ("_lock", "_passed", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed = False
        self._waiting: list[threading.Event | tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def pass_by(self) -> None:
        with self._lock:
            self._passed = True
            for waiting in self._waiting:
                if isinstance(waiting, threading.Event):
                    waiting.set()
                else:
                    loop, event = waiting
                    loop.call_soon_threadsafe(event.set)

    def wait(self, timeout: float) -> None:
        """Block the calling thread; when the time is over, the caller looks at what has become of things."""
        event = threading.Event()
        if self._enlist(event):
            event.wait(timeout)
            self._strike(event)

    async def reached(self, timeout: float) -> None:
        """The same for a coroutine."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        if not self._enlist(entry):
            return
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._strike(entry)  # before its loop can be closed: a closed loop takes no calls

    def _enlist(self, entry: threading.Event | tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> bool:
        with self._lock:
            if not self._passed:
                self._waiting.append(entry)
            return not self._passed

    def _strike(self, entry: threading.Event | tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting.remove(entry)
