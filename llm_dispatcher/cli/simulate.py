"""`llm-dispatcher simulate`: a simulated vendor in a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from ..testing import SimulatedVendor


def serve(vendor: SimulatedVendor, *, until_stdin_closes: bool = False) -> None:
    """Say where it listens in one line of JSON, and serve until a signal comes (or who started it is gone)."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with vendor:
            print(json.dumps({"wire": vendor.wire, "base_url": vendor.base_url}), flush=True)  # noqa: T201 - its answer
            if until_stdin_closes:
                loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing is ever written to it
            await stop.wait()

    asyncio.run(until_told())
