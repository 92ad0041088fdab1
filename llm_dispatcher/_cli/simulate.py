"""`llm-dispatcher simulate`: a simulated vendor in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from ..testing import SimulatedVendor


def serve(vendor: SimulatedVendor, *, until_stdin_closes: bool = False) -> None:
    """Say where it listens in one line of JSON, and serve until a signal comes (or who started it is gone)."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        with suppress(NotImplementedError):  # on Windows, a loop handles no signals: Ctrl-C cancels this task instead
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
        async with vendor:
            print(json.dumps({"wire": vendor.wire, "base_url": vendor.base_url}), flush=True)  # noqa: T201 - its answer
            if until_stdin_closes:
                _call_when_stdin_closes(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()

    with suppress(KeyboardInterrupt):
        asyncio.run(until_told())


def _call_when_stdin_closes(tell: Callable[[], object]) -> None:
    """In a thread, because a loop on Windows does not watch a pipe. It reads the descriptor and not `sys.stdin`, whose
    lock a thread that waits would hold while the process ends.
    """

    def wait() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        with suppress(RuntimeError):  # the loop is closed: the process is ending already
            tell()

    threading.Thread(target=wait, name="until stdin closes", daemon=True).start()
