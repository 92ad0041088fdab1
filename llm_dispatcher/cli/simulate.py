"""`llm-dispatcher simulate`: a simulated vendor in a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from ..testing import Script, SimulatedVendor, script_from_json
from ..testing.script import Reply


def serve(wire: str, text: str, script: Path | None, port: int, api_key: str) -> None:
    """Say where it listens in one line of JSON, and serve until a signal comes."""
    told: Script = Reply(text) if script is None else script_from_json(script.read_bytes())
    vendor = SimulatedVendor(wire, told, port=port, api_key=api_key or None)

    async def until_a_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with vendor:
            print(json.dumps({"wire": vendor.wire, "base_url": vendor.base_url}), flush=True)  # noqa: T201 - its answer
            await stop.wait()

    asyncio.run(until_a_signal())
