"""How soon a vendor sees that the reader has left: `break`, with the stream still held, 50 times on each wire; and a
thousand streams, two hundred a wire, each cancelled at a moment of chance.

python benchmarks/leaving_early.py
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from llm_dispatcher import LLMSwitch, TaskRequest
from llm_dispatcher.testing import Reply, SimulatedVendor, Stall, Wire

TIMES = 50
CANCELLED = 200
KINDS = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "ollama": "ollama",
}


async def seconds_until_seen(switch: LLMSwitch, vendor: SimulatedVendor) -> float:
    stream = switch.stream_request(TaskRequest("Count."))
    async for _ in stream:
        left = time.monotonic()
        break
    request = vendor.requests[-1]
    await asyncio.to_thread(request.wait_until_over)
    assert request.ended == "left" and request.ended_at is not None
    del stream
    return request.ended_at - left


async def seconds_after_cancelling(
    switch: LLMSwitch, vendor: SimulatedVendor, number: int, after: float
) -> float | None:
    """`None` if the request had not been sent yet, or was answered already."""
    reading = asyncio.create_task(switch.stream_request(TaskRequest(f"Count, number {number}.")).text())
    await asyncio.sleep(after)
    left = time.monotonic()
    reading.cancel()
    await asyncio.wait({reading})
    requests = [request for request in vendor.requests if request.text == f"Count, number {number}."]
    if not requests or await asyncio.to_thread(requests[0].wait_until_over) != "left" or requests[0].ended_at is None:
        return None
    return requests[0].ended_at - left


async def main() -> None:
    for wire in Wire:
        with SimulatedVendor(wire, Reply("one two three", fault=Stall(2))) as vendor:
            settings = {"kind": KINDS[wire], "api_key": "test-key", "base_url": vendor.base_url, "models": ["m"]}
            if KINDS[wire] == "openai":
                settings["api"] = wire.removeprefix("openai-")
            async with LLMSwitch({"providers": {"a": settings}}) as switch:
                delays = [await seconds_until_seen(switch, vendor) for _ in range(TIMES)]
        print(
            f"{wire:17} median {statistics.median(delays) * 1e3:5.1f} ms, worst of {TIMES} {max(delays) * 1e3:5.1f} ms",
            end="",
        )
        with SimulatedVendor(wire, Reply("one two three four five six", pace=0.02)) as vendor:
            settings["base_url"] = vendor.base_url
            async with LLMSwitch({"providers": {"a": settings}}) as switch:
                chance = random.Random(wire)
                cancelled = [
                    seconds
                    for number in range(CANCELLED)
                    if (seconds := await seconds_after_cancelling(switch, vendor, number, chance.uniform(0, 0.12)))
                    is not None
                ]
        median = statistics.median(cancelled) * 1e3
        print(f"of {CANCELLED} cancelled {len(cancelled)} under way, median {median:5.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
