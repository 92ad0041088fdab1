"""`llm-dispatcher simulate`: a simulated vendor in its own process."""

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
    """Print the address as a line of JSON, and serve until a signal arrives.

    With `until_stdin_closes` it also ends when standard input closes, which happens when its parent process ends.
    """

    async def serve_until_stopped() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        # Windows' event loop has no signal handlers; there, Ctrl-C cancels this task.
        with suppress(NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop.set)
        async with vendor:
            print(json.dumps({"wire": vendor.wire, "base_url": vendor.base_url}), flush=True)  # noqa: T201 - its answer
            if until_stdin_closes:
                _call_when_stdin_closes(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()

    with suppress(KeyboardInterrupt):
        asyncio.run(serve_until_stopped())


def _call_when_stdin_closes(callback: Callable[[], object]) -> None:
    """Wait in a thread, because Windows' event loop does not watch pipes.

    The thread reads the descriptor and not `sys.stdin`: it would hold the lock of `sys.stdin` while the process ends.
    """

    def wait() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        with suppress(RuntimeError):  # The loop is closed: the process is already ending.
            callback()

    threading.Thread(target=wait, name="until stdin closes", daemon=True).start()
